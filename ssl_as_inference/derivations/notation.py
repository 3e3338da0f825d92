r"""The paper's symbols: vectors on the sphere, inner products, integrals over the sphere, the Dirac measure.

Vectors are formal: $\mu_i$, $f_j$ and z are SymPy symbols that meet only inside `Inner`, which is symmetric and which
`canonical` expands bilinearly. The number of views M, that of images N and the dimension d stay symbols.
"""

from __future__ import annotations

from typing import Any

from sympy import (
    Add,
    Derivative,
    DiracDelta,
    Dummy,
    Expr,
    Function,
    Indexed,
    IndexedBase,
    Integer,
    Integral,
    Limit,
    Mul,
    Product,
    Subs,
    Sum,
    Symbol,
    diff,
    expand,
    expand_log,
    factor_terms,
    log,
    sympify,
)
from sympy.printing.latex import LatexPrinter

M = Symbol("M", integer=True, positive=True)
i = Symbol("i", integer=True, positive=True)
j = Symbol("j", integer=True, positive=True)
N = Symbol("N", integer=True, positive=True)
n = Symbol("n", integer=True, positive=True)
m = Symbol("m", integer=True, positive=True)
d = Symbol("d", integer=True, positive=True)
z = Symbol("z")
X = Symbol(r"\mathbb{X}")
kappa = Symbol("kappa", positive=True)
concentrations = IndexedBase("kappa", positive=True)
mu = IndexedBase("mu")
f = IndexedBase("f")

_VECTOR_ORDER = ("eta", "mu", "g", "v", "f", r"\bar{f}", "z")


def _vectors(expression: Expr) -> list[str]:
    """Labels of the vectors in an expression, first those that stand on the left of an inner product."""
    labels = {str(atom.base.label) for atom in expression.atoms(Indexed)} | {str(s) for s in expression.free_symbols}
    return [label for label in _VECTOR_ORDER if label in labels]


def _rank(vector: Expr) -> tuple[int, str]:
    labels = _vectors(vector)
    return (_VECTOR_ORDER.index(labels[0]) if labels else len(_VECTOR_ORDER), str(vector))


class Inner(Function):  # type: ignore[misc]  # SymPy's classes are untyped
    r"""$u^\top v$, symmetric; `canonical` makes use of its linearity."""

    nargs = 2

    @classmethod
    def class_key(cls) -> tuple[int, int, str]:
        """Printed behind the numbers that multiply it."""
        return 6, 0, cls.__name__

    @classmethod
    def eval(cls, u: Expr, v: Expr) -> Expr | None:
        r"""Put the arguments in one order, since $u^\top v = v^\top u$."""
        return cls(v, u) if _rank(v) < _rank(u) else None

    def _latex(self, printer: Any, exp: Any = None) -> str:
        u, v = (
            rf"\left({printer._print(a)}\right)" if a.is_Add or isinstance(a, Sum) else printer._print(a)  # noqa: SLF001
            for a in self.args
        )
        text = rf"{u}^{{\top}} {v}"
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"


class LogNormalizer(Function):  # type: ignore[misc]
    r"""$\log C(\kappa)$ of either family: the logarithm of what makes the density integrate to one."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:  # noqa: ARG002  # there is one argument
        r"""Minus $A(\kappa)$, of which `normalizers.MEAN_RESULTANT_LENGTH` says what it is for von Mises–Fisher."""
        return -MeanResultantLength(self.args[0])

    def _latex(self, printer: Any, exp: Any = None) -> str:
        text = rf"\log C\left({printer._print(self.args[0])}\right)"  # noqa: SLF001
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"


class MeanResultantLength(Function):  # type: ignore[misc]
    r"""$A(\kappa) = -\mathrm{d}\log C/\mathrm{d}\kappa$ of the von Mises–Fisher distribution."""

    nargs = 1

    def _latex(self, printer: Any, exp: Any = None) -> str:
        text = rf"A\left({printer._print(self.args[0])}\right)"  # noqa: SLF001
        return text if exp is None else rf"{text}^{{{exp}}}"


def named_function(name: str, *, template: str) -> Any:
    r"""Make an undefined function that is printed as `template`, such as `r"p(\mathbb{{X}}\mid {0})"`."""

    def _latex(self: Any, printer: Any, exp: Any = None) -> str:
        text = template.format(*(printer._print(argument) for argument in self.args))  # noqa: SLF001
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"

    return type(name, (Function,), {"_latex": _latex})


class Dirac(Function):  # type: ignore[misc]
    r"""$\delta(z - f)$ with respect to the surface measure."""

    nargs = 2

    def _latex(self, printer: Any, exp: Any = None) -> str:  # noqa: ARG002  # powers of a Dirac measure do not occur
        u, v = (printer._print(a) for a in self.args)  # noqa: SLF001
        return rf"\delta\left({u} - {v}\right)"


class SphereIntegral(Function):  # type: ignore[misc]
    r"""$\int_{S^{d-1}} h(z)\,dz$ of an integrand h over the variable z."""

    nargs = 2

    def _latex(self, printer: Any, exp: Any = None) -> str:  # noqa: ARG002
        integrand, variable = self.args
        body = printer._print(integrand)  # noqa: SLF001
        body = rf"\left({body}\right)" if integrand.is_Add else body
        return rf"\int {body}\, d{printer._print(variable)}"  # noqa: SLF001


def _bilinear(product: Expr) -> Expr:
    """Expand an `Inner` whose arguments are sums, or numbers times vectors."""
    u, v = product.args
    for position, side in enumerate((u, v)):
        other = (u, v)[1 - position]
        side = canonical(side)  # noqa: PLW2901
        if side.is_zero:
            return Integer(0)
        if side.is_Add:
            return Add(*[canonical(Inner(term, other)) for term in side.args])
        if isinstance(side, Sum):
            own = {limit[0]: Dummy(str(limit[0]), integer=True, positive=True) for limit in side.limits}
            taken = {index: new for index, new in own.items() if other.has(index)}  # an index of the other's is meant
            renamed = side.xreplace(taken)
            return canonical(Sum(Inner(renamed.function, other), *renamed.limits))
        if side.is_Mul:
            scalars = [x for x in side.args if not _vectors(x)]
            if scalars:
                rest = Mul(*[x for x in side.args if _vectors(x)])
                return expand(Mul(*scalars) * canonical(Inner(rest, other)))
    return product


def _linear(operator: Expr, term: Expr) -> Expr:
    """Pull out of a sum or an integral what does not depend on its variables; sums stand outside integrals."""
    is_sum = isinstance(operator, Sum)
    variables = operator.variables if is_sum else (operator.args[1],)
    coefficient, rest = term.as_independent(*variables, as_Add=False)
    inner = [x for x in Mul.make_args(rest) if isinstance(x, Sum)]
    limits = [limit for x in inner for limit in x.limits]
    if inner and len({limit[0] for limit in limits}) == len(limits):  # no index stands for two things
        others = [x for x in Mul.make_args(rest) if not isinstance(x, Sum)]
        body = Mul(*others, *[x.function for x in inner])
    else:
        body, limits = rest, []
    if not is_sum:
        if limits:
            return canonical(coefficient * Sum(SphereIntegral(body, operator.args[1]), *limits))
        return coefficient * SphereIntegral(body, operator.args[1])
    for limit in operator.limits:
        if body.has(limit[0]):
            limits.append(limit)
        else:
            coefficient *= limit[2] - limit[1] + 1
    limits.sort(key=lambda limit: str(limit[0]))
    return expand(coefficient) * Sum(body, *limits) if limits else expand(coefficient * body)


def canonical(expression: Any) -> Expr:
    """One form for expressions that are equal by linearity, by the rules of logarithms or by the order of finite sums.

    Args:
        expression: A SymPy expression.

    Example:
        >>> canonical(Sum(2 * mu[i] + kappa, (i, 1, M)) - 2 * Sum(mu[i], (i, 1, M)))
        M*kappa
    """
    e = sympify(expression)
    # what is after Indexed is for a rule to evaluate
    if not e.args or isinstance(e, Indexed | Integral | Derivative | DiracDelta | Limit | Subs):
        return e
    if isinstance(e, Sum | SphereIntegral):
        terms = Add.make_args(expand(canonical(e.args[0])))
        return Add(*[_linear(e, term) for term in terms])
    if isinstance(e, Product):
        return e.func(canonical(e.function), *e.limits)
    e = e.func(*[canonical(argument) for argument in e.args])
    if isinstance(e, log) and e.args[0].is_Add:  # what its terms have in common has a logarithm of its own
        e = log(factor_terms(e.args[0], sign=False))
    if isinstance(e, Inner):
        return _bilinear(e)
    expanded = expand(expand_log(e, force=True))
    # A logarithm of a product has become a sum, which has a canonical form of its own.
    return expanded if expanded == e else canonical(expanded)


class _Printer(LatexPrinter):  # type: ignore[misc]
    r"""LaTeX with one summation sign for each index, $\log\Gamma$ and $\psi$."""

    def _print_loggamma(self, expr: Expr, exp: str | None = None) -> str:  # SymPy looks these up by their names
        return self._applied(r"\log\Gamma", expr.args[0], exp)

    def _print_polygamma(self, expr: Expr, exp: str | None = None) -> str:
        order, argument = expr.args
        return self._applied(r"\psi" if order == 0 else rf"\psi^{{({self._print(order)})}}", argument, exp)

    def _applied(self, sign: str, argument: Expr, exp: str | None) -> str:
        text = rf"{sign}\left({self._print(argument)}\right)"
        return text if exp is None else rf"\left[{text}\right]^{{{exp}}}"

    def _print_Sum(self, expr: Expr) -> str:  # noqa: N802  # SymPy looks it up by this name
        signs = "".join(
            rf"\sum_{{{self._print(index)}={self._print(low)}}}^{{{self._print(high)}}} "
            for index, low, high in expr.limits
        )
        body = self._print(expr.function)
        return signs + (rf"\left({body}\right)" if expr.function.is_Add else body)

    def _print_Subs(self, expr: Expr) -> str:  # noqa: N802
        values = zip(expr.variables, expr.point, strict=True)
        places = r",\, ".join(f"{self._print(symbol)}={self._print(value)}" for symbol, value in values)
        return rf"\left. {self._print(expr.expr)} \right|_{{{places}}}"


def to_latex(expression: Expr) -> str:
    """LaTeX of an expression."""
    text: str = _Printer().doprint(expression)
    return text


def differentiate(expression: Expr) -> Expr:
    """Carry out the derivatives in an expression, by SymPy's own rules."""
    evaluated: Expr = expression.replace(Derivative, diff)
    return evaluated


def sift(expression: Expr) -> Expr:
    r"""$\int\delta(z-f)\,h(z)\,dz = h(f)$, wherever it applies."""

    def apply(integrand: Expr, variable: Expr) -> Expr:
        atoms = [x for x in Mul.make_args(integrand) if isinstance(x, Dirac) and x.args[0] == variable]
        if len(atoms) != 1:
            return SphereIntegral(integrand, variable)
        rest = Mul(*[x for x in Mul.make_args(integrand) if x is not atoms[0]])
        return rest.subs(variable, atoms[0].args[1])

    return canonical(expression).replace(SphereIntegral, apply)
