"""Kernel text -> LLVM module without Numba's front end, which takes three quarters of a compilation.

Kernel text is a small part of Python: one function of integers, floats, booleans and pointers, whose names keep
their type, with `for` over ranges, `while`, `if` and calls of machine words.  One walk over its syntax tree types it
and writes LLVM instructions; words, and operators of any but the commonest types, are typed and written by Numba
itself, so both ways mean the same.  Whatever a text says beyond that raises `Unsupported`, and Numba compiles it.

Knows: Python's syntax tree, LLVM instructions, how Numba resolves a call. Must not know: what kernel text computes,
caches. Place: `backend` tries it first. Importing this module imports Numba.
"""

import ast
import builtins
import operator

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.fastmathpass import rewrite_module
from numba.core.cpu_options import FastMathOptions
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target

I1, I64 = ir.IntType(1), ir.IntType(64)
_SIGNED = {types.int8, types.int16, types.int32, types.int64}
_FLOATS = {types.float32, types.float64}
_BINARY = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
           ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.BitAnd: operator.and_, ast.BitOr: operator.or_,
           ast.BitXor: operator.xor, ast.LShift: operator.lshift, ast.RShift: operator.rshift, ast.Pow: operator.pow}
_UNARY = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert, ast.Not: operator.not_}
_COMPARE = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_COMPARED = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}


class Unsupported(Exception):
    """The text says something that only Numba understands."""


def module(tree: ast.Module, namespace: dict, arguments: tuple, symbol: str, hasty: bool = False, translator=None):
    """(an llvmlite IR module that defines `symbol` with the text's function `kernel`, the libraries it needs).

    translator: a `_Translator` of another dialect, whose functions return nothing.

    hasty: results are waited for, as in a loop whose turns depend on each other: `vecmath` makes its chains short.

    Raises:
        Unsupported: leave it to Numba.
    """
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    if len(functions) != 1 or functions[0].name != "kernel":
        raise Unsupported("more than one function")
    context = cpu_target.target_context
    context.typing_context.refresh()
    context.refresh()
    library = context.codegen().create_library("kernel")
    made = library.create_ir_module("kernel")
    made.hasty, made.device = hasty, translator is not None
    result = I64 if translator is None else ir.VoidType()
    function = ir.Function(made, ir.FunctionType(result, [context.get_value_type(t) for t in arguments]), symbol)
    function.attributes.add("nounwind")
    try:
        with context.push_code_library(library):
            (translator or _Translator)(context, function, functions[0], namespace, arguments).run()
    except (NumbaError, NotImplementedError, TypeError, AttributeError) as error:
        raise Unsupported(str(error)) from None
    rewrite_module(made, FastMathOptions({"contract"}))
    return made, library


_resolved: dict = {}


class _Value:
    """An LLVM value of a Numba type."""

    __slots__ = ("type", "llvm")

    def __init__(self, type_, llvm):
        self.type, self.llvm = type_, llvm


class _Translator:
    def __init__(self, context, function, node, namespace, arguments):
        self.context, self.typing, self.namespace = context, context.typing_context, namespace
        self.function, self.node = function, node
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.names: dict[str, tuple] = {}
        for a, v, t in zip(node.args.args, function.args, arguments, strict=True):
            self.put(a.arg, _Value(t, v))
        self.loops: list = []

    def run(self) -> None:
        start = self.function.append_basic_block("start")
        entry = self.builder.block
        self.builder.position_at_end(start)
        self.body(self.node.body)
        if not self.builder.block.is_terminated:
            raise Unsupported("a path without return")
        with self.builder.goto_block(entry):
            self.builder.branch(start)

    # -- statements

    def body(self, statements) -> None:
        for s in statements:
            if self.builder.block.is_terminated:
                return
            method = getattr(self, "do_" + type(s).__name__, None)
            if method is None:
                raise Unsupported(type(s).__name__)
            method(s)

    def put(self, name: str, v: _Value) -> None:
        """Stores a value in a name, which keeps the type of its first."""
        kind = types.unliteral(v.type)
        if name not in self.names:
            self.names[name] = kind, cgutils.alloca_once(self.builder, self.context.get_value_type(kind), name=name)
        have, slot = self.names[name]
        if have != kind:
            raise Unsupported(f"{name} changes its type")
        self.builder.store(self.plain(v).llvm, slot)

    def do_Assign(self, s) -> None:
        if len(s.targets) != 1:
            raise Unsupported("several targets")
        target = s.targets[0]
        if isinstance(target, ast.Tuple):
            if not isinstance(s.value, ast.Tuple) or len(s.value.elts) != len(target.elts):
                raise Unsupported("unpacking")
            values = [self.value(v) for v in s.value.elts]
            for t, v in zip(target.elts, values):
                self.put(self.name(t), v)
        else:
            self.put(self.name(target), self.value(s.value))

    def do_AugAssign(self, s) -> None:
        old = self.value(ast.Name(self.name(s.target), ast.Load()))
        self.put(self.name(s.target), self.binary(type(s.op), old, self.value(s.value)))

    def name(self, node) -> str:
        if not isinstance(node, ast.Name):
            raise Unsupported("a target that is no name")
        return node.id

    def do_Expr(self, s) -> None:
        if not isinstance(s.value, ast.Constant):
            self.value(s.value)

    def do_Pass(self, s) -> None:
        pass

    def do_Return(self, s) -> None:
        v = self.value(s.value)
        self.builder.ret(self.cast(v, types.int64))

    def do_If(self, s) -> None:
        test = self.truth(self.value(s.test))
        yes, no, after = (self.function.append_basic_block(n) for n in ("yes", "no", "after"))
        self.builder.cbranch(test, yes, no)
        for block, statements in ((yes, s.body), (no, s.orelse)):
            self.builder.position_at_end(block)
            self.body(statements)
            if not self.builder.block.is_terminated:
                self.builder.branch(after)
        self.builder.position_at_end(after)
        self.end_unreached(after)

    def end_unreached(self, block) -> None:
        """Closes a block that no other leads to."""
        if not any(block in getattr(b.terminator, "operands", ()) for b in self.function.blocks if b.terminator is not None):
            self.builder.unreachable()

    def do_While(self, s) -> None:
        if s.orelse:
            raise Unsupported("while ... else")
        head, inside, after = (self.function.append_basic_block(n) for n in ("head", "inside", "after"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        if isinstance(s.test, ast.Constant) and s.test.value is True:
            self.builder.branch(inside)
        else:
            self.builder.cbranch(self.truth(self.value(s.test)), inside, after)
        self.loop(s.body, inside, head, after)
        self.end_unreached(after)

    def do_For(self, s) -> None:
        if s.orelse or not (isinstance(s.iter, ast.Call) and isinstance(s.iter.func, ast.Name) and s.iter.func.id == "range"
                            and "range" not in self.namespace and not s.iter.keywords):
            raise Unsupported("a loop over no range")
        given = [self.value(a) for a in s.iter.args]
        if not 1 <= len(given) <= 3 or not all(types.unliteral(v.type) in _SIGNED for v in given):
            raise Unsupported("a range of other types")
        bounds = [self.cast(v, types.int64) for v in given]
        start, stop = (ir.Constant(I64, 0), bounds[0]) if len(bounds) == 1 else bounds[:2]
        step = bounds[2] if len(bounds) == 3 else ir.Constant(I64, 1)
        down = None if isinstance(step, ir.Constant) and step.constant > 0 else self.builder.icmp_signed("<", step, ir.Constant(I64, 0))
        counter = cgutils.alloca_once(self.builder, I64, name="at")
        self.builder.store(start, counter)
        head, inside, onward, after = (self.function.append_basic_block(n) for n in ("head", "inside", "onward", "after"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        now = self.builder.load(counter)
        more = self.builder.icmp_signed("<", now, stop)
        if down is not None:
            more = self.builder.select(down, self.builder.icmp_signed(">", now, stop), more)
        self.builder.cbranch(more, inside, after)
        self.builder.position_at_end(onward)
        self.builder.store(self.builder.add(self.builder.load(counter), step, flags=("nsw",)), counter)
        self.builder.branch(head)
        self.builder.position_at_end(inside)
        self.put(self.name(s.target), _Value(types.int64, self.builder.load(counter)))
        self.loop(s.body, None, onward, after)

    def loop(self, statements, inside, onward, after) -> None:
        if inside is not None:
            self.builder.position_at_end(inside)
        self.loops.append((onward, after))
        self.body(statements)
        self.loops.pop()
        if not self.builder.block.is_terminated:
            self.builder.branch(onward)
        self.builder.position_at_end(after)

    def do_Continue(self, s) -> None:
        self.builder.branch(self.loops[-1][0])

    def do_Break(self, s) -> None:
        self.builder.branch(self.loops[-1][1])

    # -- values

    def value(self, node) -> _Value:
        method = getattr(self, "of_" + type(node).__name__, None)
        if method is None:
            raise Unsupported(type(node).__name__)
        return method(node)

    def of_Constant(self, node) -> _Value:
        return self.constant(node.value)

    def constant(self, v) -> _Value:
        if type(v) is int:
            return _Value(types.literal(v), ir.Constant(I64, v))
        if type(v) is bool:
            return _Value(types.boolean, ir.Constant(I1, int(v)))
        if type(v) is float:
            v = np.float64(v)
        if isinstance(v, np.generic) and v.dtype.kind in "iuf" and v.dtype.itemsize >= 4:
            kind = self.typing.resolve_value_type(v)
            return _Value(kind, self.context.get_constant(kind, v.item()))
        raise Unsupported(f"a constant of type {type(v).__name__}")

    def of_Name(self, node) -> _Value:
        if node.id in self.names:
            kind, slot = self.names[node.id]
            return _Value(kind, self.builder.load(slot))
        return self.constant(self.static(node))

    def static(self, node):
        """What a name outside the function, or an attribute of a module, stands for."""
        if isinstance(node, ast.Name):
            if node.id in self.names:
                raise Unsupported("a local name")
            return self.namespace[node.id] if node.id in self.namespace else getattr(builtins, node.id)
        if isinstance(node, ast.Attribute):
            return getattr(self.static(node.value), node.attr)
        raise Unsupported("something computed")

    def of_Attribute(self, node) -> _Value:
        return self.constant(self.static(node))

    def of_Call(self, node) -> _Value:
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise Unsupported("keywords")
        return self.call(self.static(node.func), [self.value(a) for a in node.args])

    def call(self, fn, values) -> _Value:
        """Any function that Numba knows, typed and written by Numba."""
        if fn in (min, max) and all(types.unliteral(v.type) in _SIGNED for v in values):
            return self.extreme("<" if fn is min else ">", [self.cast(v, types.int64) for v in values])
        key = (fn, *[v.type for v in values])
        found = _resolved.get(key)
        if found is None:
            kind = self.typing.resolve_value_type(fn)
            signature = self.typing.resolve_function_type(kind, tuple([v.type for v in values]), {})
            if signature is None or len(signature.args) != len(values):
                raise Unsupported(f"a call of {fn!r}")
            found = _resolved[key] = signature, self.context.get_function(kind, signature)
        signature, implementation = found
        given = [self.cast(v, t) for v, t in zip(values, signature.args)]
        result = implementation(self.builder, given)
        return _Value(signature.return_type, result)

    def extreme(self, order: str, values) -> _Value:
        found = values[0]
        for v in values[1:]:
            found = self.builder.select(self.builder.icmp_signed(order, v, found), v, found)
        return _Value(types.int64, found)

    def of_BinOp(self, node) -> _Value:
        return self.binary(type(node.op), self.value(node.left), self.value(node.right))

    def binary(self, op, a, b) -> _Value:
        x, y = types.unliteral(a.type), types.unliteral(b.type)
        if x in _SIGNED and y in _SIGNED and op in _INTEGER:
            return _Value(types.int64, _INTEGER[op](self.builder, self.cast(a, types.int64), self.cast(b, types.int64)))
        if x is y and x in _FLOATS and op in _FLOATING:
            return _Value(x, getattr(self.builder, _FLOATING[op])(a.llvm, b.llvm))
        return self.call(_BINARY[op], [a, b])

    def of_UnaryOp(self, node) -> _Value:
        v = self.value(node.operand)
        if isinstance(node.op, ast.USub) and isinstance(v.type, types.IntegerLiteral):
            return self.constant(-v.type.literal_value)
        if isinstance(node.op, ast.Not):
            return _Value(types.boolean, self.builder.not_(self.truth(v)))
        if isinstance(node.op, ast.USub) and v.type in _FLOATS:
            return _Value(v.type, self.builder.fneg(v.llvm))
        return self.call(_UNARY[type(node.op)], [v])

    def of_Compare(self, node) -> _Value:
        if len(node.ops) != 1 or type(node.ops[0]) not in _COMPARE:
            raise Unsupported("a chain of comparisons")
        a, b, op = self.value(node.left), self.value(node.comparators[0]), _COMPARE[type(node.ops[0])]
        x, y = types.unliteral(a.type), types.unliteral(b.type)
        if x in _SIGNED and y in _SIGNED:
            return _Value(types.boolean, self.builder.icmp_signed(op, self.cast(a, types.int64), self.cast(b, types.int64)))
        if x is y and x in _FLOATS:
            compare = self.builder.fcmp_unordered if op == "!=" else self.builder.fcmp_ordered
            return _Value(types.boolean, compare(op, a.llvm, b.llvm))
        return self.call(_COMPARED[op], [a, b])

    def of_BoolOp(self, node) -> _Value:
        """`and` and `or` of booleans; what comes after is evaluated only where Python would."""
        slot = cgutils.alloca_once(self.builder, I1)
        after = self.function.append_basic_block("decided")
        for k, part in enumerate(node.values):
            v = self.value(part)
            if v.type != types.boolean:
                raise Unsupported("and, or of numbers")
            self.builder.store(v.llvm, slot)
            if k == len(node.values) - 1:
                self.builder.branch(after)
                break
            onward = self.function.append_basic_block("next")
            blocks = (onward, after) if isinstance(node.op, ast.And) else (after, onward)
            self.builder.cbranch(v.llvm, *blocks)
            self.builder.position_at_end(onward)
        self.builder.position_at_end(after)
        return _Value(types.boolean, self.builder.load(slot))

    def of_IfExp(self, node) -> _Value:
        test = self.truth(self.value(node.test))
        yes, no, after = (self.function.append_basic_block(n) for n in ("yes", "no", "after"))
        self.builder.cbranch(test, yes, no)
        self.builder.position_at_end(yes)
        a, yes = self.plain(self.value(node.body)), self.builder.block
        self.builder.position_at_end(no)
        b, no = self.plain(self.value(node.orelse)), self.builder.block
        if a.type != b.type:
            raise Unsupported("a choice of types")
        slot = cgutils.alloca_once(self.builder, a.llvm.type)
        for block, v in ((yes, a), (no, b)):
            self.builder.position_at_end(block)
            self.builder.store(v.llvm, slot)
            self.builder.branch(after)
        self.builder.position_at_end(after)
        return _Value(a.type, self.builder.load(slot))

    def of_Subscript(self, node) -> _Value:
        return self.call(operator.getitem, [self.value(node.value), self.value(node.slice)])

    # -- types

    def cast(self, v: _Value, kind):
        if v.type == kind:
            return v.llvm
        if kind == types.int64 and v.type in _SIGNED:
            return self.builder.sext(v.llvm, I64)
        if kind == types.int64 and isinstance(v.type, types.IntegerLiteral):
            return v.llvm
        return self.context.cast(self.builder, v.llvm, v.type, kind)

    def plain(self, v: _Value) -> _Value:
        kind = types.unliteral(v.type)
        return _Value(kind, self.cast(v, kind))

    def truth(self, v: _Value):
        if v.type == types.boolean:
            return v.llvm
        return self.context.is_true(self.builder, types.unliteral(v.type), self.plain(v).llvm)


def _divide(b, x, y):
    """(quotient, remainder) rounded down; both 0 for a divisor 0, as with NumPy's error model."""
    zero, one = ir.Constant(y.type, 0), ir.Constant(y.type, 1)
    known = isinstance(y, ir.Constant) and isinstance(y.constant, int) and y.constant > 0
    by = y if known else b.select(b.icmp_signed("==", y, zero), one, y)
    quotient, rest = b.sdiv(x, by), b.srem(x, by)
    off = b.icmp_signed("<", rest, zero) if known else b.and_(
        b.icmp_signed("!=", rest, zero), b.icmp_signed("<", b.xor(rest, by), zero))
    quotient, rest = b.select(off, b.sub(quotient, one), quotient), b.select(off, b.add(rest, by), rest)
    if known:
        return quotient, rest
    nothing = b.icmp_signed("==", y, zero)
    return b.select(nothing, zero, quotient), b.select(nothing, zero, rest)


_INTEGER = {ast.Add: lambda b, x, y: b.add(x, y), ast.Sub: lambda b, x, y: b.sub(x, y), ast.Mult: lambda b, x, y: b.mul(x, y),
            ast.FloorDiv: lambda b, x, y: _divide(b, x, y)[0], ast.Mod: lambda b, x, y: _divide(b, x, y)[1],
            ast.BitAnd: lambda b, x, y: b.and_(x, y), ast.BitOr: lambda b, x, y: b.or_(x, y), ast.BitXor: lambda b, x, y: b.xor(x, y)}
_FLOATING = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}
