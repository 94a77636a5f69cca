"""ggml (llama.cpp): ggml_flash_attn_ext with an f16 mask where the pattern needs one, through the
libraries of llama-cpp-python."""
import ctypes
import importlib.util
import math
import pathlib

import numpy
import torch

POINTER, LONG, FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 30}  # ggml_type


class InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", POINTER), ("no_alloc", ctypes.c_bool)]


class Plan(ctypes.Structure):
    _fields_ = [("work_size", ctypes.c_size_t), ("work_data", POINTER), ("n_threads", ctypes.c_int),
                ("threadpool", POINTER), ("callback", POINTER), ("callback_data", POINTER),
                ("use_ref", ctypes.c_bool), ("rest", ctypes.c_char * 64)]


def signature(library, name, result, *arguments):
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


class Ggml:
    def __init__(self):
        folder = pathlib.Path(importlib.util.find_spec("llama_cpp").origin).parent / "lib"
        base = ctypes.CDLL(str(folder / "libggml-base.so"), ctypes.RTLD_GLOBAL)
        cpu = ctypes.CDLL(str(folder / "libggml-cpu.so"), ctypes.RTLD_GLOBAL)
        self.init = signature(base, "ggml_init", POINTER, InitParams)
        self.tensor = signature(base, "ggml_new_tensor_4d", POINTER, POINTER, ctypes.c_int, LONG, LONG, LONG, LONG)
        self.data = signature(base, "ggml_get_data", POINTER, POINTER)
        self.attention = signature(base, "ggml_flash_attn_ext", POINTER, POINTER, POINTER, POINTER, POINTER, POINTER,
                                   FLOAT, FLOAT, FLOAT)
        self.graph = signature(base, "ggml_new_graph", POINTER, POINTER)
        self.expand = signature(base, "ggml_build_forward_expand", None, POINTER, POINTER)
        self.plan = signature(cpu, "ggml_graph_plan", Plan, POINTER, ctypes.c_int, POINTER)
        self.compute = signature(cpu, "ggml_graph_compute", ctypes.c_int, POINTER, ctypes.POINTER(Plan))
        signature(cpu, "ggml_cpu_init", None)()

    def fill(self, tensor, values):
        values = values.contiguous()
        ctypes.memmove(self.data(tensor), values.data_ptr(), values.numel() * values.element_size())


def contestants(case, threads):
    if case.kv != case.h:
        return
    g = Ggml()
    q, k, v = case.tensors()
    bytes_needed = 4 * 2 * q.numel() + 2 * k.element_size() * k.numel() + 2 * case.q * case.k + (8 << 20)
    context = g.init(InitParams(bytes_needed, None, False))
    queries = g.tensor(context, TYPES[torch.float32], case.d, case.q, case.h, case.b)  # ggml takes f32 queries only
    g.fill(queries, q.float())
    keys, values = (g.tensor(context, TYPES[case.dtype], case.d, case.k, case.h, case.b) for _ in range(2))
    g.fill(keys, k)
    g.fill(values, v)
    mask = None
    if case.kind != "full":
        seen = case.mask()
        if seen is None:
            seen = torch.ones(case.q, case.k, dtype=torch.bool).tril(case.k - case.q)
        mask = g.tensor(context, TYPES[torch.float16], case.k, case.q, 1, 1)
        g.fill(mask, torch.zeros(seen.shape, dtype=torch.float16).masked_fill_(~seen, -math.inf))
    o = g.attention(context, queries, keys, values, mask, 1 / math.sqrt(case.d), 0.0, 0.0)
    graph = g.graph(context)
    g.expand(graph, o)
    plan = g.plan(graph, threads, None)
    work = numpy.empty(plan.work_size + 128, numpy.uint8)
    plan.work_data = (work.ctypes.data + 63) // 64 * 64

    def run():
        if g.compute(graph, ctypes.byref(plan)) != 0:
            raise RuntimeError("ggml_graph_compute failed")

    def output():
        array = numpy.ctypeslib.as_array(ctypes.cast(g.data(o), ctypes.POINTER(FLOAT)), (q.numel(),)).copy()
        return torch.from_numpy(array).reshape(case.b, case.q, case.h, case.d).transpose(1, 2)

    yield "ggml", (lambda kept=work: run()), output
