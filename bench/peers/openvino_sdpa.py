"""OpenVINO's ScaledDotProductAttention, compiled for the case's precision."""
import numpy
import openvino
import openvino.opset13 as op
import torch


def contestants(case, threads):
    if case.kv != case.h or case.dtype == torch.float16:
        return
    type_of = {torch.float32: openvino.Type.f32, torch.bfloat16: openvino.Type.bf16}[case.dtype]
    shapes = [[case.b, case.h, case.q, case.d]] + 2 * [[case.b, case.h, case.k, case.d]]
    inputs = [op.parameter(shape, type_of) for shape in shapes]
    mask = case.mask()
    if mask is not None:
        inputs.append(op.parameter([1, 1, case.q, case.k], openvino.Type.boolean))
    score = op.scaled_dot_product_attention(*inputs, causal=case.kind == "causal" and mask is None)
    model = openvino.Model([op.result(score)], inputs, "sdpa")
    compiled = openvino.Core().compile_model(model, "CPU", {
        "INFERENCE_PRECISION_HINT": {torch.float32: "f32", torch.bfloat16: "bf16"}[case.dtype],
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    kept = []  # the request only borrows its inputs
    for i, x in enumerate(case.tensors()):
        if case.dtype == torch.bfloat16:
            bits = x.contiguous().view(torch.int16).numpy().view(numpy.uint16)
            kept.append(openvino.Tensor(bits, list(x.shape), type_of))
        else:
            kept.append(openvino.Tensor(x.numpy(), shared_memory=True))
        request.set_input_tensor(i, kept[-1])
    if mask is not None:
        kept.append(openvino.Tensor(mask[None, None].numpy(), shared_memory=True))
        request.set_input_tensor(3, kept[-1])

    def output():
        o = request.get_output_tensor(0)
        if o.element_type == openvino.Type.f32:
            return torch.from_numpy(o.data.copy())
        bits = numpy.frombuffer(o.data.tobytes(), dtype=numpy.int16).copy()
        return torch.from_numpy(bits).view(torch.bfloat16).reshape(shapes[0])

    yield "openvino", lambda: (request.infer(), kept)[0], output
