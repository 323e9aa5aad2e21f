"""The skill that works out a number."""

from __future__ import annotations

import ast
import math
import operator
import statistics
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, cast

from pydantic import Field, StringConstraints

from . import wording
from .errors import BadSkillUse, SkillFailed
from .extras import Packages, needing
from .skill import Skill, SkillOutput

__all__ = ["Calculate", "Calculated"]

Number = int | float

_MOST_PLACES = 15
_MEANING = (
    "+ - * / // % ** ( ), comparisons, pi, e, and sqrt, log, sin (radians), round, sum, mean, "
    "median, ..."
)
_MOST = 1e300
_MOST_BITS = 1000
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "^": "**"})  # noqa: RUF001


class Calculated(SkillOutput):
    """The value of an expression; for a comparison, whether it holds."""

    value: bool | int | float

    def summary(self) -> str:
        """The value, as a person writes it."""
        if isinstance(self.value, bool):
            return f"The result is {str(self.value).lower()}."
        return f"The result is {wording.number_text(self.value)}."


class Calculate(Skill):
    """Works out expressions with simpleeval, which reads them and runs no code."""

    name = "calculate"
    description = "Work out an arithmetic expression, such as (17.5 + 3) * 12 or sqrt(2) / 3."
    parallel = 4
    packages: ClassVar[Packages] = Packages("calculate", ("simpleeval",))

    def setup(self, device: str) -> None:
        """Import simpleeval. Raises `BadConfiguration` when it is not installed."""
        with needing(self.packages.extra, "calculate"):
            import simpleeval  # noqa: F401

    def run(
        self,
        expression: Annotated[
            str,
            StringConstraints(min_length=1, max_length=500),
            Field(description=_MEANING),
        ],
    ) -> Calculated:
        """Work it out. Raises `BadSkillUse` for what is no expression, else `SkillFailed`."""
        value = _value(expression.translate(_SIGNS).strip())
        if not isinstance(value, int | float):
            raise BadSkillUse(
                "calculate: the result is not one number; write numbers without separators, "
                "1000 rather than 1,000"
            )
        if not abs(value) < _MOST:
            raise SkillFailed("calculate: the result is too large, or is not a number")
        return Calculated(value=value)


def _value(expression: str) -> Any:
    from simpleeval import FunctionNotDefined, InvalidExpression, NameNotDefined

    tree = _parsed(expression)
    try:
        return _evaluator().eval(expression, previously_parsed=tree)
    except (FunctionNotDefined, NameNotDefined) as error:
        name = error.func_name if isinstance(error, FunctionNotDefined) else error.name
        known = ", ".join([*_FUNCTIONS, *_NAMES])
        raise BadSkillUse(f"calculate: there is no {name!r}; known: {known}") from error
    except InvalidExpression as error:
        raise BadSkillUse(
            "calculate: only numbers, + - * / // % ** ( ), comparisons and named functions may "
            "stand in an expression"
        ) from error
    except TypeError as error:
        raise BadSkillUse(f"calculate: {error}") from error
    except RecursionError as error:
        raise BadSkillUse("calculate: the expression is nested too deeply") from error
    except ZeroDivisionError as error:
        raise SkillFailed("calculate: it divides by zero") from error
    except OverflowError as error:
        raise SkillFailed("calculate: a number in it becomes too large") from error
    except ValueError as error:  # outside of what a function is defined for
        raise SkillFailed(f"calculate: it has no value: {error}") from error


def _parsed(expression: str) -> ast.expr:
    try:
        # Not by simpleeval, which takes statements too and warns of them.
        return ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadSkillUse(
            f"calculate: {expression!r} cannot be read as an expression: {error}"
        ) from error


def _evaluator() -> Any:
    from simpleeval import EvalWithCompoundTypes

    evaluator = EvalWithCompoundTypes(operators=_OPERATORS, functions={}, names=_NAMES)
    evaluator.functions = _FUNCTIONS  # it had added its own
    # Nothing else is read: no text, attributes, indices or comprehensions.
    evaluator.nodes = {kind: evaluator.nodes[kind] for kind in _NODES}
    evaluator.nodes[ast.Constant] = _constant
    return evaluator


def _constant(node: ast.Constant) -> Number:
    if type(node.value) not in (int, float):
        raise TypeError(f"{node.value!r} is not a number")
    return cast("Number", node.value)


def _of_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator that takes nothing but numbers: `[1] * 10**9` would fill the memory."""

    def of_numbers(*operands: Any) -> Any:
        for operand in operands:
            if not isinstance(operand, int | float):
                raise TypeError("only numbers can be calculated with, not lists or functions")
        return function(*operands)

    return of_numbers


def _power(base: Number, exponent: Number) -> Number:
    """Power, checked before a whole number is worked out that would take minutes."""
    bits = base.bit_length() - 1 if isinstance(base, int) else 0
    if isinstance(exponent, int) and bits * exponent > _MOST_BITS:
        raise OverflowError
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("a fractional power of a negative number is not real")
    return result


def _of_angle(function: Callable[[float], float]) -> Callable[[float], float]:
    """A function of an angle that is 0 where only pi's missing digits make it something else."""

    def of_angle(angle: float) -> float:
        result = function(angle)
        return result if abs(result) > 1e-15 else 0.0

    return of_angle


def _rounded(number: Number, digits: int = 0) -> Number:
    if not -_MOST_PLACES <= digits <= _MOST_PLACES:
        raise ValueError(f"it can be rounded to {_MOST_PLACES} places at most")
    return round(number, digits) if digits else round(number)


def _of_all(function: Callable[[Sequence[Number]], Number]) -> Callable[..., Number]:
    """A function that takes its numbers one by one, or as a list."""

    def of_all(*numbers: Any) -> Number:
        return function(numbers[0] if len(numbers) == 1 and _is_list(numbers[0]) else numbers)

    return of_all


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _compared(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """A comparison of numbers as they are told: 0.1 + 0.2 equals 0.3."""
    return lambda one, other: holds(_told(one), _told(other))


def _told(value: Number) -> Number:
    return float(wording.number_text(value)) if isinstance(value, float) else value


_NODES = (ast.BinOp, ast.Call, ast.Compare, ast.List, ast.Name, ast.Tuple, ast.UnaryOp)

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _of_numbers(operator.add),
    ast.Sub: _of_numbers(operator.sub),
    ast.Mult: _of_numbers(operator.mul),
    ast.Div: _of_numbers(operator.truediv),
    ast.FloorDiv: _of_numbers(operator.floordiv),
    ast.Mod: _of_numbers(operator.mod),
    ast.Pow: _of_numbers(_power),
    ast.UAdd: _of_numbers(operator.pos),
    ast.USub: _of_numbers(operator.neg),
    ast.Eq: _of_numbers(_compared(operator.eq)),
    ast.NotEq: _of_numbers(_compared(operator.ne)),
    ast.Lt: _of_numbers(_compared(operator.lt)),
    ast.LtE: _of_numbers(_compared(operator.le)),
    ast.Gt: _of_numbers(_compared(operator.gt)),
    ast.GtE: _of_numbers(_compared(operator.ge)),
}

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "log10": math.log10,
    "sin": _of_angle(math.sin),
    "cos": _of_angle(math.cos),
    "tan": _of_angle(math.tan),
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "degrees": math.degrees,
    "radians": math.radians,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": _rounded,
    "abs": abs,
    "min": _of_all(min),
    "max": _of_all(max),
    "sum": _of_all(sum),
    "mean": _of_all(statistics.fmean),
    "median": _of_all(statistics.median),
}

_NAMES = {"pi": math.pi, "e": math.e}
