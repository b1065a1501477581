"""Prints the mutants of a module as JSON, one change each: [line, what is there, what comes in its place, source].

The changes are those of cosmic-ray that ask a test something (of its eleven replacements of an addition, one), and
popad's own: another number; a statement that is not executed, an answer not given, a flag not passed, an exception not
caught.
"""

import ast
import difflib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from parso.python.tree import Name, PythonNode
from parso.tree import NodeOrLeaf

Position = tuple[tuple[int, int], tuple[int, int]]
Mutant = tuple[int, str, str, str]

OF_COSMIC_RAY = [
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Add", "Div_Mul", "FloorDiv_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Mod_Mul", "Pow_Mul", "LShift_RShift", "RShift_LShift")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("BitAnd_BitOr", "BitXor_BitAnd")),
    # Turned round, and moved by one.
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_GtE", "LtE_Gt", "Gt_LtE", "GtE_Lt")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt")),
    *(f"ReplaceUnaryOperator_Delete_{name}" for name in ("Not", "USub", "Invert")),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "RemoveDecorator", "ZeroIterationForLoop"),
]


class OtherNumber:
    """One more, one less."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Position]:
        if node.type == "number":
            for _ in range(2):
                yield node.start_pos, node.end_pos

    def mutate(self, node: NodeOrLeaf, index: int) -> NodeOrLeaf:
        return Name(str(ast.literal_eval(node.value) + 1 - 2 * index), node.start_pos, prefix=node.prefix)


class DropStatement:
    """`pass` in place of a call, a raise, a del, or an assignment to what outlives the function."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Position]:
        if node.type == "simple_stmt" and self.matters(node.children[0]):
            yield node.start_pos, node.end_pos

    @staticmethod
    def matters(statement: NodeOrLeaf) -> bool:
        if statement.type == "expr_stmt":
            target, operator = statement.children[0], statement.children[1]
            return bool(target.type == "atom_expr" or (operator.type == "operator" and operator.value != "="))
        return statement.type in ("atom_expr", "raise_stmt", "del_stmt")

    def mutate(self, node: NodeOrLeaf, index: int) -> NodeOrLeaf:
        statement = node.children[0]
        node.children[0] = Name("pass", statement.start_pos, prefix=statement.get_first_leaf().prefix)
        return node


class DropReturn:
    """`pass` in place of a return within a branch: what stands after the branch goes on."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Position]:
        if node.type == "simple_stmt" and (node.children[0].type == "return_stmt" or node.children[0] == "return"):
            suite = node.parent
            if suite.parent is not None and suite.parent.type != "funcdef":
                yield node.start_pos, node.end_pos

    mutate = DropStatement.mutate


class DropFlag:
    """`a | c` in place of `a | b | c`."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Position]:
        if node.type in ("expr", "arith_expr") and all(sign == "|" for sign in node.children[1::2]):
            for _ in node.children[::2]:
                yield node.start_pos, node.end_pos

    def mutate(self, node: NodeOrLeaf, index: int) -> NodeOrLeaf:
        prefix = node.get_first_leaf().prefix
        operands = [operand for number, operand in enumerate(node.children[::2]) if number != index]
        signs = node.children[1::2]
        children = [operands[0]]
        for sign, operand in zip(signs, operands[1:], strict=False):
            children += [sign, operand]
        children[0].get_first_leaf().prefix = prefix
        return PythonNode(node.type, children) if len(children) > 1 else children[0]


class DropException:
    """`except ():` in place of `except OSError:`, and a tuple of exceptions with one less."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Position]:
        if node.type == "except_clause":
            for _ in range(1 + len(self.exceptions(node))):
                yield node.start_pos, node.end_pos

    @staticmethod
    def exceptions(node: NodeOrLeaf) -> list[NodeOrLeaf]:
        """Those of a tuple."""
        caught = node.children[1]
        if caught.type == "atom" and caught.children[1].type == "testlist_comp":
            return list(caught.children[1].children[::2])
        return []

    def mutate(self, node: NodeOrLeaf, index: int) -> NodeOrLeaf:
        names = [name.get_code().strip() for name in self.exceptions(node)]
        if index:
            names.pop(index - 1)
        caught = f"({', '.join(names)},)" if index else "()"
        node.children[1] = Name(caught, node.children[1].start_pos, prefix=" ")
        return node


class Skeleton(ast.NodeTransformer):
    """Takes away what has no effect at run time: types, and what is imported for them alone."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if "TYPE_CHECKING" in ast.unparse(node.test):
            return node.orelse
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        if ast.unparse(node.targets[0]) == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Name("object")
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def skeleton(source: str) -> str:
    return ast.dump(Skeleton().visit(ast.parse(source)))


def change(before: str, after: str) -> tuple[int, str, str]:
    """The number of the first line that differs, and the lines on both sides, with single blanks."""
    one, other = before.splitlines(), after.splitlines()
    blocks = [block for block in difflib.SequenceMatcher(None, one, other, False).get_opcodes() if block[0] != "equal"]
    begin, end = blocks[0][1], blocks[-1][2]
    begin_other, end_other = blocks[0][3], blocks[-1][4]
    texts = (
        " ".join(re.sub(r"  # .*", "", line) for line in lines)
        for lines in (one[begin:end], other[begin_other:end_other])
    )
    was, becomes = (" ".join(text.split()) for text in texts)
    return begin + 1, was, becomes


def mutants(source: str) -> Iterator[Mutant]:
    """Each different change once, in the order of lines."""
    operators = [get_operator(f"core/{name}")() for name in OF_COSMIC_RAY] + [
        OtherNumber(),
        DropStatement(),
        DropReturn(),
        DropFlag(),
        DropException(),
    ]
    seen = {skeleton(source)}
    found = []
    for operator in operators:
        occurrence = 0
        while (mutated := mutate_code(source, operator, occurrence)) is not None:
            occurrence += 1
            try:
                bones = skeleton(mutated)
            except SyntaxError:
                continue
            if bones not in seen:
                seen.add(bones)
                found.append((*change(source, mutated), mutated))
    yield from sorted(found)


if __name__ == "__main__":
    json.dump(list(mutants(Path(sys.argv[1]).read_text())), sys.stdout)
