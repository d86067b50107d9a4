"""Turns an extractor whose body stays within plain expressions into a program, as JSON in the form of `program.rs`. Whatever it
does not know for certain is not native: the function then runs in Python."""

import ast
import builtins
import functools
import json
import linecache
import math
import types
import warnings

# Functions of one argument or, where it says so, of several.
FUNCTIONS = {name: (1, 1) for name in ("abs", "round", "int", "float", "bool", "len")}
FUNCTIONS |= {name: (2, 64) for name in ("min", "max")}
METHODS = {"lower": 0, "upper": 0, "strip": 0, "startswith": 1, "endswith": 1}
OPERATORS = {ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod}
COMPARISONS = {ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn}
GENUINE = {name: getattr(builtins, name) for name in FUNCTIONS}


class NotNative(Exception):
    """The function stays in Python."""


def program(function, dict_style, inputs, outputs, only_output):
    """The program of an extractor, or None.

    Args:
        function: as it is called, with (ts, ...).
        dict_style: it takes one dict of its inputs.
        inputs: pairs of name and whether its type is one that programs know.
        outputs: names, in declared order.
        only_output: `list` or `dict` where the one output has this type, so that a tuple or dict is a value; else None.
    """
    try:
        plain, own = _plain(function)
        return json.dumps(_Compiler(plain, own, dict_style, inputs, outputs, only_output).compiled())
    except (NotNative, RecursionError, SyntaxError, ValueError):
        return None


def _plain(function):
    """The function that was written, and how many parameters it has that are no inputs."""
    if isinstance(function, types.MethodType):
        plain, own = function.__func__, 2
    elif hasattr(function, "extractor"):
        plain, own = function.extractor, 2
    else:
        plain, own = function, 1
    if type(plain) is not types.FunctionType or plain.__defaults__ or plain.__kwdefaults__:
        raise NotNative
    return plain, own


@functools.lru_cache(maxsize=8)
def _parsed(source):
    """The functions of a module by name and first line, all code in it, and the names that are assigned as globals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
        codes = list(_codes(compile(tree, "<extractors>", "exec", dont_inherit=True)))
    functions, written = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = node.decorator_list[0] if node.decorator_list else node
            functions[node.name, first.lineno] = node
        elif isinstance(node, ast.Global):
            written.update(node.names)
    return functions, codes, written


def _codes(code):
    yield code
    for held in code.co_consts:
        if isinstance(held, types.CodeType):
            yield from _codes(held)


def _definition(code):
    """The `def` that gave this code, if its source is at hand and compiles to just this code; with the globals assigned."""
    functions, codes, written = _parsed("".join(linecache.getlines(code.co_filename)))
    node = functions.get((code.co_name, code.co_firstlineno))
    if node is None or code not in codes:
        raise NotNative
    return node, written


class _Compiler:
    def __init__(self, function, own, dict_style, inputs, outputs, only_output):
        code = function.__code__
        self.node, self.written = _definition(code)
        self.function = function
        self.outputs, self.only_output = outputs, only_output
        self.known = {name: position for position, (name, is_known) in enumerate(inputs) if is_known}
        parameters = code.co_varnames[: code.co_argcount]
        spec = self.node.args
        if spec.vararg or spec.kwarg or spec.kwonlyargs or code.co_freevars or code.co_cellvars:
            raise NotNative
        if len(parameters) != own + (1 if dict_style else len(inputs)):
            raise NotNative
        given = parameters[own:]
        self.named = given[0] if dict_style else None
        self.positions = {} if dict_style else dict(zip(given, range(len(inputs))))
        if not dict_style:
            # A parameter of a type that programs do not know may stand there unused.
            self.positions = {name: at for name, at in self.positions.items() if inputs[at][1]}
        self.names = set(code.co_varnames)
        stored = {found.id for found in ast.walk(self.node) if isinstance(found, ast.Name) and _is_store(found)}
        if stored & (set(parameters[:own]) | {self.named}):
            raise NotNative
        assigned = [*(name for name in given if name in stored), *code.co_varnames[code.co_argcount :]]
        self.locals = {name: slot for slot, name in enumerate(assigned)}

    def compiled(self):
        """The whole program. A parameter that is assigned begins as a local with the input's value."""
        moved = [name for name in self.locals if name in self.positions]
        head = [{"Assign": [self.locals[name], {"Input": self.positions[name]}]} for name in moved]
        body, after = self.block(self.node.body, set(moved))
        if after is not None:
            # It falls off the end.
            body = [*body, self.returned(ast.Constant(None), after)]
        return {"locals": len(self.locals), "body": [*head, *body]}

    def block(self, statements, assigned):
        """Statements, and the locals that are assigned after them; None if they return. What follows then never runs."""
        made = []
        for statement in statements:
            if isinstance(statement, ast.Pass) or _is_text(statement):
                continue
            if isinstance(statement, ast.Return):
                return [*made, self.returned(statement.value or ast.Constant(None), assigned)], None
            if isinstance(statement, ast.If):
                made_if, assigned = self.branches(statement, assigned)
                made.append(made_if)
                if assigned is None:
                    return made, None
            else:
                made.append(self.assignment(statement, assigned))
        return made, assigned

    def branches(self, statement, assigned):
        test = self.expression(statement.test, assigned)
        body, after_body = self.block(statement.body, set(assigned))
        other, after_other = self.block(statement.orelse, set(assigned))
        ends = [after for after in (after_body, after_other) if after is not None]
        return {"If": [test, body, other]}, set.intersection(*ends) if ends else None

    def assignment(self, statement, assigned):
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None and statement.simple:
            target, value = statement.target, statement.value
        elif isinstance(statement, ast.AugAssign):
            target = statement.target
            if not isinstance(target, ast.Name):
                raise NotNative
            value = ast.BinOp(ast.Name(target.id, ast.Load()), statement.op, statement.value)
        else:
            raise NotNative
        if not isinstance(target, ast.Name) or target.id not in self.locals:
            raise NotNative
        made = {"Assign": [self.locals[target.id], self.expression(value, assigned)]}
        assigned.add(target.id)
        return made

    def returned(self, value, assigned):
        """A return: the outputs in declared order, as `outputs()` takes a result apart."""
        if isinstance(value, ast.IfExp) and (_is_container(value.body) or _is_container(value.orelse)):
            test = self.expression(value.test, assigned)
            return {"If": [test, [self.returned(value.body, assigned)], [self.returned(value.orelse, assigned)]]}
        if isinstance(value, ast.Dict) and self.only_output != "dict":
            keys = [self.text(key) for key in value.keys]
            if len(set(keys)) != len(keys) or set(keys) != set(self.outputs):
                raise NotNative
            by_name = dict(zip(keys, value.values))
            parts = [by_name[name] for name in self.outputs]
        elif isinstance(value, ast.Tuple) and self.only_output != "list":
            parts = value.elts
        elif isinstance(value, ast.List) and len(self.outputs) > 1:
            parts = value.elts
        else:
            parts = [value]
        if len(parts) != len(self.outputs):
            raise NotNative
        return {"Return": [self.expression(part, assigned) for part in parts]}

    def expression(self, node, assigned):
        compile_node = getattr(self, f"of_{type(node).__name__}", None)
        if compile_node is None:
            raise NotNative
        return compile_node(node, assigned)

    def of_Constant(self, node, assigned):
        value = node.value
        if value is None:
            return "None"
        if isinstance(value, bool):
            return {"Bool": value}
        if isinstance(value, int) and -(2**63) <= value < 2**63:
            return {"Int": value}
        if isinstance(value, float) and math.isfinite(value):
            return {"Float": value}
        return {"Str": self.text(node)}

    def of_Name(self, node, assigned):
        if node.id in self.locals:
            if node.id not in assigned:
                raise NotNative
            return {"Local": self.locals[node.id]}
        if node.id not in self.positions:
            raise NotNative
        return {"Input": self.positions[node.id]}

    def of_Subscript(self, node, assigned):
        if not isinstance(node.value, ast.Name) or self.named is None or node.value.id != self.named:
            raise NotNative
        name = self.text(node.slice)
        if name not in self.known:
            raise NotNative
        return {"Input": self.known[name]}

    def of_UnaryOp(self, node, assigned):
        kind = {ast.USub: "Negative", ast.UAdd: "Positive", ast.Not: "Not"}.get(type(node.op))
        if kind is None:
            raise NotNative
        return {kind: self.expression(node.operand, assigned)}

    def of_BinOp(self, node, assigned):
        if type(node.op) not in OPERATORS:
            raise NotNative
        operands = (self.expression(node.left, assigned), self.expression(node.right, assigned))
        return {"Binary": [type(node.op).__name__, *operands]}

    def of_BoolOp(self, node, assigned):
        return {type(node.op).__name__: [self.expression(value, assigned) for value in node.values]}

    def of_IfExp(self, node, assigned):
        return {"IfElse": [self.expression(part, assigned) for part in (node.test, node.body, node.orelse)]}

    def of_Compare(self, node, assigned):
        left = self.expression(node.left, assigned)
        first, right = node.ops[0], node.comparators[0]
        if len(node.ops) == 1 and isinstance(first, (ast.Is, ast.IsNot)):
            if not isinstance(right, ast.Constant) or right.value is not None:
                raise NotNative
            is_none = {"IsNone": left}
            return {"Not": is_none} if isinstance(first, ast.IsNot) else is_none
        if len(node.ops) == 1 and isinstance(first, (ast.In, ast.NotIn)) and isinstance(right, (ast.Tuple, ast.List)):
            found = {"Or": [{"Bool": False}, *({"Compare": [left, [["Eq", self.constant(one)]]]} for one in right.elts)]}
            return {"Not": found} if isinstance(first, ast.NotIn) else found
        if any(type(op) not in COMPARISONS for op in node.ops):
            raise NotNative
        rights = [self.expression(comparator, assigned) for comparator in node.comparators]
        return {"Compare": [left, [[type(op).__name__, right] for op, right in zip(node.ops, rights)]]}

    def of_Call(self, node, assigned):
        if node.keywords:
            raise NotNative
        called, arguments = node.func, node.args
        if isinstance(called, ast.Name) and called.id in FUNCTIONS:
            least, most = FUNCTIONS[called.id]
            if not least <= len(arguments) <= most or not self.is_genuine(called.id):
                raise NotNative
            name = called.id.capitalize()
        elif isinstance(called, ast.Attribute) and METHODS.get(called.attr) == len(arguments):
            arguments = [called.value, *arguments]
            name = {"startswith": "StartsWith", "endswith": "EndsWith"}.get(called.attr, called.attr.capitalize())
        else:
            raise NotNative
        return {"Call": [name, [self.expression(argument, assigned) for argument in arguments]]}

    def is_genuine(self, name):
        """Whether a name means the builtin here, and not something else that has its name."""
        if name in self.names or name in self.function.__globals__ or name in self.written:
            return False
        return self.function.__builtins__.get(name) is GENUINE[name]

    def constant(self, node):
        if not isinstance(node, ast.Constant):
            raise NotNative
        return self.of_Constant(node, set())

    @staticmethod
    def text(node):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            raise NotNative
        node.value.encode()
        return node.value


def _is_store(name):
    return isinstance(name.ctx, ast.Store)


def _is_container(node):
    if isinstance(node, ast.IfExp):
        return _is_container(node.body) or _is_container(node.orelse)
    return isinstance(node, (ast.Tuple, ast.Dict, ast.List))


def _is_text(statement):
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
