"""ONNX Runtime: MultiHeadAttention and the standard Attention for full and causal, GroupQueryAttention
for causal windows. f32; the node's own layout, transposes included."""
import numpy
import onnxruntime
import torch
from onnx import TensorProto, helper


def session(node, inputs, outputs, operators, threads):
    values = [helper.make_tensor_value_info(*value) for value in inputs], [helper.make_tensor_value_info(*value) for value in outputs]
    graph = helper.make_graph([node], "attention", *values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*item) for item in operators],
                              ir_version=10 if operators[0][1] < 23 else 11)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def bound(run, feeds, outputs):
    """(closure, name -> output) with inputs and outputs bound once."""
    binding = run.io_binding()
    kept = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
    for name, value in kept.items():
        binding.bind_ortvalue_input(name, value)
    made = {name: onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, numpy.float32, "cpu")
            for name, shape in outputs.items()}
    for name, value in made.items():
        binding.bind_ortvalue_output(name, value)
    return (lambda: (run.run_with_iobinding(binding), kept)[0]), made


def by_token(x):
    return numpy.ascontiguousarray(x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1).numpy())


def from_tokens(case, value):
    return torch.from_numpy(value.numpy()).reshape(case.b, case.q, case.h, case.d).transpose(1, 2)


def contestants(case, threads):
    if case.dtype != torch.float32 or case.kv != case.h or case.q != case.k:
        return
    tensors = dict(zip("qkv", case.tensors()))
    hidden, heads = [case.b, case.q, case.h * case.d], [case.b, case.h, case.q, case.d]
    microsoft = [("", 21), ("com.microsoft", 1)]
    if case.width is None:
        node = helper.make_node("MultiHeadAttention", list("qkv"), ["o"], domain="com.microsoft", num_heads=case.h,
                                unidirectional=int(case.kind == "causal"))
        run = session(node, [(x, TensorProto.FLOAT, hidden) for x in "qkv"], [("o", TensorProto.FLOAT, hidden)],
                      microsoft, threads)
        call, out = bound(run, {x: by_token(t) for x, t in tensors.items()}, {"o": hidden})
        yield "onnxruntime.mha", call, lambda: from_tokens(case, out["o"])
        node = helper.make_node("Attention", list("qkv"), ["o"], is_causal=int(case.kind == "causal"))
        run = session(node, [(x, TensorProto.FLOAT, heads) for x in "qkv"], [("o", TensorProto.FLOAT, heads)],
                      [("", 23)], threads)
        plain_call, plain = bound(run, {x: t.numpy() for x, t in tensors.items()}, {"o": heads})
        yield "onnxruntime.attention", plain_call, lambda: torch.from_numpy(plain["o"].numpy())
    elif case.kind == "causal":
        node = helper.make_node("GroupQueryAttention", ["q", "k", "v", "", "", "lengths", "total"], ["o", "pk", "pv"],
                                domain="com.microsoft", num_heads=case.h, kv_num_heads=case.h, local_window_size=case.width)
        inputs = [(x, TensorProto.FLOAT, hidden) for x in "qkv"]
        inputs += [("lengths", TensorProto.INT32, [case.b]), ("total", TensorProto.INT32, [1])]
        run = session(node, inputs, [("o", TensorProto.FLOAT, hidden), ("pk", TensorProto.FLOAT, heads),
                                     ("pv", TensorProto.FLOAT, heads)], microsoft, threads)
        feeds = {x: by_token(t) for x, t in tensors.items()}
        feeds["lengths"] = numpy.full(case.b, case.k - 1, numpy.int32)
        feeds["total"] = numpy.array([case.k], numpy.int32)
        call, out = bound(run, feeds, {"o": hidden, "pk": heads, "pv": heads})
        yield "onnxruntime.gqa", call, lambda: from_tokens(case, out["o"])
