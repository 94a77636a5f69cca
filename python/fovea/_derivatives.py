"""What torch needs to differentiate an operator more than once, forwards, and under torch.func.

A first gradient is the fused backward. A second one, and every directional derivative, comes from
the operator's definition in plain torch operations (``_definitions.py``), whose memory grows with
the square of the length.
"""

from dataclasses import dataclass

import torch
from torch.autograd import forward_ad


class Operator:
    """An operator with its arguments that are not tensors; what :func:`run` can differentiate.

    ``differentiable``: how many of its tensors, the first ones, have gradients. A tensor that was
    not given is None everywhere.
    """

    differentiable: int
    outputs: int

    def fused(self, *tensors):
        """The raw operator: a tuple of ``outputs`` tensors."""
        raise NotImplementedError

    def fused_backward(self, wanted, d_outputs, tensors, outputs):
        """The raw backward: gradients of ``tensors[i]`` for i in ``wanted``, as a tuple."""
        raise NotImplementedError

    def defined(self, *tensors):
        """What ``fused`` gives, in plain torch operations."""
        raise NotImplementedError

    def batched(self, tensors, mapped, wanted=()):
        """Which tensors begin with the batch, where a mapped dimension can join it exactly.

        ``mapped`` says which have the new dimension; None means that it must be looped over.
        """
        raise NotImplementedError


# Kept alive: registrations end with it.
_LIBRARY = torch.library.Library("fovea", "IMPL")


def register_recorded(name, kernel):
    """Makes ``kernel`` the operator that the C++ gradient calls where it must be differentiable."""
    _LIBRARY.impl(name, kernel, "CompositeImplicitAutograd")


def transformed():
    """Whether a call must go through :func:`run`.

    Elsewhere the operator's own gradient, in C++, does: it costs less and torch.compile knows it,
    but it knows neither torch.func nor forward mode.
    """
    return not torch.compiler.is_compiling() and (
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def run(operator, *tensors):
    """``operator.fused(*tensors)``, differentiable in every way that this module knows."""
    return _Fused.apply(operator, *_lowered(*tensors[:3]), *tensors[3:])


def recorded(operator, d_outputs, tensors, outputs, skip=()):
    """Gradients of the differentiable tensors that can be differentiated again; None for others."""
    count = operator.differentiable
    wanted = tuple(i for i in range(count) if tensors[i] is not None and i not in skip)
    call = _Backward(operator, wanted)
    gradients = _FusedBackward.apply(call, *d_outputs, *tensors, *outputs)
    return _spread(wanted, gradients, count)


def _lowered(*operands):
    """In autocast's type, as torch's scaled_dot_product_attention takes its operands."""
    if not torch.is_autocast_enabled("cpu"):
        return operands
    dtype = torch.get_autocast_dtype("cpu")
    return tuple(x if x.dtype == torch.float64 else x.to(dtype) for x in operands)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(operator, *tensors):
        return operator.fused(*tensors)

    @staticmethod
    def setup_context(ctx, inputs, outputs):
        ctx.operator, *tensors = inputs
        ctx.save_for_backward(*tensors, *outputs)
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *d_outputs):
        operator, saved = ctx.operator, ctx.saved_tensors
        tensors, outputs = saved[: -operator.outputs], saved[-operator.outputs :]
        needed = ctx.needs_input_grad[1 : operator.differentiable + 1]
        skip = tuple(i for i, wanted in enumerate(needed) if not wanted)
        if d_outputs[0] is None:
            d_outputs = (torch.zeros_like(outputs[0]), *d_outputs[1:])
        gradients = recorded(operator, d_outputs, tensors, outputs, skip)
        return (None, *gradients, *(None,) * (len(tensors) - len(gradients)))

    @staticmethod
    def jvp(ctx, _, *tangents):
        moved = [i for i, t in enumerate(tangents) if t is not None]
        with _outer_levels():
            tensors = _primals(ctx.saved_tensors)
            function = lambda *chosen: ctx.operator.defined(*_replaced(tensors, moved, chosen))
            return _directional(function, [tensors[i] for i in moved], [tangents[i] for i in moved])

    @staticmethod
    def vmap(info, in_dims, operator, *tensors):
        batched = operator.batched(tensors, _mapped(in_dims[1:]))
        return _vmap(_Fused, info, operator, in_dims[1:], tensors, batched)


@dataclass(frozen=True)
class _Backward:
    """The gradient of an operator with respect to ``tensors[i]``, i in ``wanted``."""

    operator: Operator
    wanted: tuple

    def split(self, x):
        """d_outputs, tensors, and outputs where they are there."""
        n = self.operator.outputs
        return x[:n], x[n:-n], x[-n:]

    def defined(self, d_outputs, tensors):
        given = [i for i, d in enumerate(d_outputs) if d is not None]

        def outputs(*chosen):
            results = self.operator.defined(*_replaced(tensors, self.wanted, chosen))
            return tuple(results[i] for i in given)

        _, pull = torch.func.vjp(outputs, *(tensors[i] for i in self.wanted))
        return pull(tuple(d_outputs[i] for i in given))

    def of_variables(self, x):
        """The indices of what the gradient is a function of, and that function."""
        n = self.operator.outputs
        last = n + self.operator.differentiable
        variables = [i for i in range(last) if x[i] is not None]

        def function(*chosen):
            full = _replaced(x, variables, chosen)
            return self.defined(full[:n], full[n:])

        return variables, function


class _FusedBackward(torch.autograd.Function):
    # The outputs of the forward are among its inputs as a saving: they are functions of the others,
    # whose derivatives take them into account.
    @staticmethod
    def forward(call, *x):
        return call.operator.fused_backward(call.wanted, *call.split(x))

    @staticmethod
    def setup_context(ctx, inputs, gradients):
        ctx.call, *x = inputs
        x = x[: -ctx.call.operator.outputs]
        ctx.save_for_backward(*x)
        ctx.save_for_forward(*x)

    @staticmethod
    def backward(ctx, *d_gradients):
        x = ctx.saved_tensors
        variables, function = ctx.call.of_variables(x)
        _, pull = torch.func.vjp(function, *(x[i] for i in variables))
        result = _spread(variables, pull(d_gradients), len(x))
        return (None, *result, *(None,) * ctx.call.operator.outputs)

    @staticmethod
    def jvp(ctx, _, *tangents):
        with _outer_levels():
            x = _primals(ctx.saved_tensors)
            variables, function = ctx.call.of_variables(x)
            directions = [
                torch.zeros_like(x[i]) if tangents[i] is None else tangents[i] for i in variables
            ]
            return _directional(function, [x[i] for i in variables], directions)

    @staticmethod
    def vmap(info, in_dims, call, *x):
        d_outputs, tensors, outputs = call.split(x)
        _, mapped, _ = call.split(_mapped(in_dims[1:]))
        batched = call.operator.batched(tensors, mapped, call.wanted)
        if batched is not None:
            every = lambda values: tuple(value is not None for value in values)
            batched = (*every(d_outputs), *batched, *every(outputs))
        return _vmap(_FusedBackward, info, call, in_dims[1:], x, batched)


def _replaced(values, indices, chosen):
    values = list(values)
    for i, value in zip(indices, chosen):
        values[i] = value
    return values


def _spread(indices, values, length):
    return _replaced([None] * length, indices, values)


def _outer_levels():
    """What a jvp computes must be differentiable forwards by the levels around its own.

    torch switches all of them off for it; its own is taken from the tensors by :func:`_primals`.
    """
    return forward_ad._set_fwd_grad_enabled(True)


def _primals(tensors):
    return [x if x is None else forward_ad.unpack_dual(x).primal for x in tensors]


def _directional(function, x, tangents):
    """The derivative of ``function(*x)``, a tuple, along ``tangents``.

    Two reverse passes: what a function pulls back is linear in what it is given, and the transpose
    of that is the derivative. Forward passes of torch do not nest.
    """
    results, pull = torch.func.vjp(function, *x)
    zeros = tuple(torch.zeros_like(result) for result in results)
    _, push = torch.func.vjp(lambda *d: pull(d), *zeros)
    return push(tuple(tangents))


def _mapped(in_dims):
    return tuple(dim is not None for dim in in_dims)


def _vmap(function, info, head, in_dims, tensors, batched):
    """The mapped dimension joins the batch, or (``batched`` is None) is looped over."""
    n = info.batch_size
    if batched is None:
        slices = zip(
            *(
                [x] * n if dim is None else x.unbind(dim)
                for x, dim in zip(tensors, in_dims)
            )
        )
        runs = [function.apply(head, *x) for x in slices]
        results = tuple(torch.stack(outputs) for outputs in zip(*runs))
    else:

        def fold(x, dim, has_batch):
            if x is None or not has_batch:
                return x
            x = x.expand(n, *x.shape) if dim is None else x.movedim(dim, 0)
            return x.flatten(0, 1)

        outputs = function.apply(head, *map(fold, tensors, in_dims, batched))
        results = tuple(x.unflatten(0, (n, x.shape[0] // n)) for x in outputs)
    return results, (0,) * len(results)
