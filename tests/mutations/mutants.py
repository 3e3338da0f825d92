"""Places in which the code is broken, one at a time, to see the ledger of claims or the tests notice."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One replacement.

    Attributes:
        path: File.
        old: Text that occurs in it once.
        new: What it is replaced by.
        claims: Claims that are run first; the rest of the ledger follows while none has failed.
        tests: Files and tests that pytest runs instead of the ledger, where no claim can notice: what is broken is the
            checker itself, a training, or what judges one.
    """

    path: str
    old: str
    new: str
    claims: str = ""
    tests: str = ""


_PS = "ssl_as_inference/special/power_spherical.py"
_PSD = "ssl_as_inference/distributions/power_spherical.py"
_PSL = "ssl_as_inference/distributions/power_spherical_log_density.py"
_PSZ = "ssl_as_inference/special/power_spherical_zero.py"
_VMF = "ssl_as_inference/special/von_mises_fisher.py"
_VMFL = "ssl_as_inference/distributions/von_mises_fisher_log_density.py"
_BESSEL = "ssl_as_inference/special/log_bessel.py"
_GAMMA = "ssl_as_inference/special/gamma_differences.py"
_HEIGHT = "ssl_as_inference/special/mean_log_height.py"
_PAIR = "ssl_as_inference/special/power_spherical_product.py"
_SPHERE = "ssl_as_inference/sphere.py"
_PRODUCT = "ssl_as_inference/distributions/product_of_experts.py"
_DELTA = "ssl_as_inference/distributions/delta_mixture.py"
_MIXTURE = "ssl_as_inference/distributions/spherical_mixture.py"
_GRAPH = "ssl_as_inference/graphical_model.py"
_OBJECTIVE = "inference/fitting/kl_objective.py"
_CROSS = "ssl_as_inference/cross_entropies.py"
_KL = "ssl_as_inference/divergences.py"
_NETWORKS = "models/networks.py"
_D = "ssl_as_inference/derivations/"
_V = "experiments/verification/"
_CHECKER = "tests/derivations/test_checker.py"
_STEPS = (
    "tests/derivations/test_steps_can_fail.py::test_a_step_that_is_false_for_three_views_or_images_alone_is_refused"
)
_AGGREGATE = "tests/experiments/test_trained_encoder_claims.py"
_LEDGER = "tests/derivations/test_ledger.py"
_COMMAND = "tests/experiments/test_verify.py"
_JUDGING, _FITTING = "inference/judging/", "inference/fitting/"
_STUDY = "experiments/evaluation/uncertainty/"
_CASES = "experiments/special_cases/"
_STORE = "ssl_as_inference/parameter_store.py"
_NEIGHBOURS = "tests/inference/judging/test_evaluation.py::test_"
_PROBE = "tests/inference/judging/test_linear_probe.py::test_"
_COLLAPSE_TESTS = "tests/inference/judging/test_collapse.py"
_CALIBRATION_TESTS = "tests/inference/judging/test_calibration_measures.py"
_RESAMPLING_TESTS = "tests/inference/judging/test_resampling.py"
_UNCERTAINTY_TESTS = "tests/inference/judging/test_uncertainty.py"
_SELECTIVE_TESTS = "tests/inference/judging/test_selective_prediction.py"
_STEPWISE = "tests/inference/fitting/test_stepwise.py::test_"
_TARGET_TESTS = "tests/inference/fitting/test_targets.py"
_SCHEDULE_TESTS = "tests/inference/fitting/test_schedule.py"
_CONTRASTIVE_TESTS = "tests/inference/fitting/test_contrastive_objective.py"
_STORE_TESTS = "tests/test_parameter_store.py"
_OBJECTIVE_TESTS = "tests/inference/fitting/test_kl_objective_errors.py"
_MONITOR_TESTS = "tests/experiments/pretraining/test_monitor.py"
_RECOVERY_TESTS = "tests/experiments/test_recovery_reports.py"
_LOOK = "tests/experiments/test_uncertainty.py::test_"
_LOOK_TESTS = (
    f"{_LOOK}the_probe_is_told_the_labels_of_training_images_alone {_LOOK}a_view_is_compared_with_another_one "
    f"{_LOOK}ambiguous_images_are_of_two_classes_and_those_of_the_control_of_one"
)
_STUDY_TESTS = "tests/experiments/test_uncertainty_study.py"
_SEED_TESTS = "tests/experiments/test_uncertainty_of_seeds.py"
_NAN_TEST = "tests/experiments/test_recover.py::test_a_difference_that_is_no_number_is_no_agreement"
_DIGITS_TESTS = "tests/experiments/test_digits.py"

MUTANTS = (
    # Power Spherical
    Mutant(_PS, "    return (dim - 1) / 2", "    return dim / 2", "C6"),
    Mutant(_PS, "lower=b, scale=4 * math.pi)", "lower=b, scale=2 * math.pi)", "C6"),
    Mutant(_PS, "return -lgamma_difference(a", "return lgamma_difference(a", "C6"),
    Mutant(_PS, "(peak - concentration_64 * math.log(2))", "(peak + concentration_64 * math.log(2))", "C6"),
    Mutant(_PS, "math.log(2) + polygamma_difference(0, a", "math.log(2) - polygamma_difference(0, a", "C6"),
    Mutant(_PS, "apply(concentration.double(), dim - 1)", "apply(concentration.double(), dim)", "C6"),
    Mutant(_PS, "value = b * h2 + p1", "value = b * h1 + p1", "C6 C21"),
    Mutant(
        _PS,
        "a = concentration.double() + b\n    return -lgamma",
        "a = concentration.double() + 1\n    return -lgamma",
        "C6",
    ),
    Mutant(_PSL, "return fall + power", "return power", "C12"),
    Mutant(_PSL, "plus_peak(dim, kappa)", "plus_peak(dim + 1, kappa)", "C6"),
    Mutant(_PSL, "(near, log_height, far_height.log())", "(near, log_height, far_height.log1p())", "C12"),
    Mutant(_PSL, "minus_half_gap.log1p()", "minus_half_gap.expm1()", "C12"),
    Mutant(_PSL, "return length * length * -0.25", "return length * length * -0.5", "C12"),
    Mutant(_PSL, "(minus_half_gap, 2, alpha=-2)", "(minus_half_gap, 2, alpha=-1)", "C12"),
    Mutant(_PSL, "return concentration / twice_height", "return -concentration / twice_height", "C12"),
    Mutant(_PSL, "return log_height - polygamma", "return log_height + polygamma", "C6"),
    Mutant(_PSZ, "delta) - delta * math.log(2)", "delta) + delta * math.log(2)", "C6"),
    Mutant(_PSZ, "delta = kappa - high - low", "delta = kappa - low", "C6"),
    Mutant(_PSD, "concentration.detach() + b", "concentration.detach() + 2 * b", "C6"),
    Mutant(
        _PSD,
        "b = (self.dim - 1) / 2\n        concentration = self",
        "b = self.dim / 2\n        concentration = self",
        "C6",
    ),
    Mutant(_GAMMA, "return series if order % 2 else -series", "return -series if order % 2 else series", "C6"),
    Mutant(_GAMMA, "addcmul(tail, near - 0.5, (b / near)", "addcmul(tail, near + 0.5, (b / near)", "C6"),
    Mutant(_GAMMA, "step = (b * low).log1p()", "step = (b * low).log()", "C6"),
    # von Mises–Fisher
    Mutant(_VMF, '"log_normalizer": ("-1",', '"log_normalizer": ("1",', "C6"),
    Mutant(_VMF, '("1", "resultant_complement")', '("1", "resultant")', "C6"),
    Mutant(_VMF, "(-slope if factor.startswith", "(slope if factor.startswith", "C6"),
    Mutant(_VMFL, "- kappa * gap, gap", "+ kappa * gap, gap", "C6 C9"),
    Mutant(_VMFL, "- kappa * gap, gap", "- 2 * kappa * gap, gap", "C9"),
    Mutant(_VMFL, "return (concentration, -1.0)[output]", "return (-concentration, -1.0)[output]", "C9"),
    Mutant(_VMFL, "complement(dim, concentration) - gap", "complement(dim, concentration) + gap", "C6"),
    Mutant(_BESSEL, "return dim / 2 - 1", "return dim / 2", "C6"),
    Mutant(
        _BESSEL,
        "return -log_surface_area(self.dim) - self._excess().log1p()",
        "return -log_surface_area(self.dim) - self._excess()",
        "C6",
    ),
    Mutant(
        _BESSEL,
        "return neighbour / (self.dim * (1 + excess))",
        "return neighbour / ((self.dim - 1) * (1 + excess))",
        "C6",
    ),
    Mutant(
        _BESSEL,
        "torch.add(self._common(), (self.kappa + self.q).reciprocal(), alpha=-self.nu * self.nu)",
        "torch.add(self._common(), (self.kappa + self.q).reciprocal(), alpha=self.nu * self.nu)",
        "C6",
    ),
    # geometry and sampling
    Mutant(_SPHERE, "dim / 2 * math.log(math.pi)", "(dim - 1) / 2 * math.log(math.pi)", "C6"),
    Mutant(_SPHERE, ".square() / 2).clamp(max=2)", ".square()).clamp(max=2)", "C9"),
    Mutant(_SPHERE, "sum_to(y.shape, -pulled)", "sum_to(y.shape, pulled)", "", "tests/test_half_squared_chord.py"),
    Mutant(_SPHERE, "sign * y).double() / 2", "sign * y).double()", "C18"),
    Mutant(_SPHERE, "torch.where(ahead, near, 1 - near), torch", "torch.where(ahead, 1 - near, near), torch", "C18"),
    Mutant(_SPHERE, "(gap * (2 - gap)).sqrt()", "(gap * (1 - gap)).abs().sqrt()", "C22"),
    # product, guides
    Mutant(_PRODUCT, "(value).unsqueeze(-2)).sum(-1)", "(value).unsqueeze(-2)).mean(-1)", "C4"),
    Mutant(
        _PRODUCT,
        "agreeing = agreeing - von_mises_fisher_log_normalizer_plus",
        "agreeing = agreeing + von_mises_fisher_log_normalizer_plus",
        "C4",
    ),
    Mutant(_PRODUCT, ".sum(-1) - deficit", ".sum(-1) + deficit", "C4"),
    Mutant(_PRODUCT, "agreeing, single - of_resultant)", "agreeing, single + of_resultant)", "C4"),
    Mutant(_PRODUCT, "* experts.mean_direction).sum(-2)", "* experts.mean_direction).mean(-2)", "C4"),
    Mutant(_PRODUCT, "[..., 0, :], eta / safe_length)", "[..., 0, :], -eta / safe_length)", "C4"),
    Mutant(_PRODUCT, "(direction, (unit * length)", "(direction, (2 * unit * length)", "C4"),
    Mutant(_PAIR, "peak = -lgamma_difference(low + b", "peak = lgamma_difference(low + b", "C25"),
    Mutant(_PAIR, "return integral + peak", "return integral - peak", "C25"),
    Mutant(_PAIR, "q, p = low + 1, high + b", "q, p = low + 1, high + b + 1", "C25"),
    Mutant(_DELTA, "shape, -math.log(self.components))\n", "shape, 0.0)\n", "C7"),
    Mutant(_DELTA, "self.locations.movedim(-2, 0)", "self.locations.movedim(-2, 0).roll(1, 0)", "C13"),
    Mutant(_MIXTURE, "within, within + between", "within, within - between", "C8"),
    Mutant(_MIXTURE, "* self.components.entropy()).sum(-1)", "* self.components.entropy()).mean(-1)", "C8"),
    # the pair and its objective
    Mutant(_GRAPH, "self.locations(views).detach())", "self.locations(views))", "C27"),
    Mutant(
        _GRAPH, "return self._draw(self.locations(views))", "return self._draw(self.locations(views).detach())", "C27"
    ),
    Mutant(_GRAPH, "return normalize(torch.stack(", "return (torch.stack(", "C1"),
    Mutant(
        _GRAPH, "return self.posterior.log_prob(self.latent)", "return -self.posterior.log_prob(self.latent)", "C29"
    ),
    Mutant(_GRAPH, "mask(mask=False)", "mask(mask=True)", "C29"),
    Mutant(_OBJECTIVE, "loss = -functools.reduce(", "loss = functools.reduce(", "C12"),
    Mutant(_OBJECTIVE, "add, self.log_densities)", "add, self.log_densities) / len(self.log_densities)", "C12"),
    Mutant(_OBJECTIVE, "else log_density.mean(0)", "else log_density.sum(0)", "C12"),
    Mutant(_OBJECTIVE, "else loss + self.log_normalizer", "else loss - self.log_normalizer", "C16"),
    Mutant(_OBJECTIVE, "        return atoms[1:]\n", "        return atoms[:-1]\n", "C13"),
    Mutant(_OBJECTIVE, "_without(view, atoms)", "atoms", "C13"),
    Mutant(_OBJECTIVE, "log_prob: Tensor = expert.log_prob(atoms)", "log_prob: Tensor = -expert.log_prob(atoms)", "C9"),
    Mutant(_NETWORKS, "normalize(direction)", "direction", "C1"),
    Mutant(
        _NETWORKS,
        "normalize(self.network(projection))\n        return VonMisesFisher(",
        "self.network(projection)\n        return VonMisesFisher(",
        "C1",
    ),
    # cross-entropies and divergences
    Mutant(_CROSS, "mean_cosine_gap(q, p) - mode)", "mean_cosine_gap(q, p) + mode)", "C18"),
    Mutant(_CROSS, "(-kappa * mean_log_height(q, p)", "(kappa * mean_log_height(q, p)", "C18"),
    Mutant(_CROSS, "return complement + resultant", "return complement - resultant", "C18"),
    Mutant(_CROSS, "(q.dim - 1) / (tau + (q.dim - 1))", "q.dim / (tau + (q.dim - 1))", "C18"),
    Mutant(_CROSS, "expand(shape).enumerate_support()).mean(0)", "expand(shape).enumerate_support()).sum(0)", "C7"),
    Mutant(_CROSS, "(q.weights * each).sum(-1)", "(q.weights * each).mean(-1)", "C19"),
    Mutant(_CROSS, "unsqueeze_batch(q, -1), p.experts).sum(-1)", "unsqueeze_batch(q, -1), p.experts).mean(-1)", "C2"),
    Mutant(_HEIGHT, "tau * h * w) - 2 * tau * h * w", "tau * h * w) - tau * h * w", "C18"),
    Mutant(
        _HEIGHT,
        "- power_spherical_log_height_deficit(dim, tau, e, h)",
        "+ power_spherical_log_height_deficit(dim, tau, e, h)",
        "C18",
    ),
    Mutant(_KL, "turn = kappa_p * von_mises", "turn = kappa_q * von_mises", "C2"),
    Mutant(
        _KL,
        "diffuse = power_spherical_kl_to_uniform(q.dim, tau) - von",
        "diffuse = power_spherical_kl_to_uniform(q.dim, tau) + von",
        "C21",
    ),
    Mutant(_KL, "concentrated = mode_q - mode_p", "concentrated = mode_q + mode_p", "C20"),
    # derivations
    Mutant(_D + "vi_simsiam.py", "(1 + Inner(mu[i], z)) ** _k", "(1 - Inner(mu[i], z)) ** _k", "C12"),
    Mutant(_D + "vi_simsiam.py", "f[j])), *_pairs) / M", "f[j])), *_pairs)", "C12"),
    Mutant(_D + "vi_simsiam.py", "return -LogNormalizer(k) - k * log", "return -LogNormalizer(k) + k * log", "C13"),
    Mutant(_D + "vi_simsiam.py", "- digamma(kappa + 2 * _b)", "+ digamma(kappa + 2 * _b)", "C23"),
    Mutant(_D + "vi_simsiam.py", "            -_b,\n", "            _b,\n", "C24"),
    Mutant(
        _D + "simsiam.py",
        "_affine = -M * LogNormalizer(kappa) - kappa",
        "_affine = -M * LogNormalizer(kappa) + kappa",
        "C9",
    ),
    Mutant(
        _D + "dirac_guide.py",
        "GUIDE = Sum(Dirac(z, f[j]), (j, 1, M)) / M",
        "GUIDE = Sum(Dirac(z, f[j]), (j, 1, M))",
        "C7",
    ),
    Mutant(_D + "normalizers.py", "return (half - 1) * log(", "return half * log(", "C6"),
    Mutant(_D + "normalizers.py", "loggamma(a) - loggamma(a + b)", "loggamma(a) + loggamma(a + b)", "C6"),
    Mutant(_D + "normalizers.py", "(dim - 1)\n    a = b", "dim\n    a = b", "C6"),
    Mutant(_D + "normalizers.py", "besseli(order + 1, concentration) /", "besseli(order + 2, concentration) /", "C6"),
    Mutant(_D + "ssl_loss.py", "SIMSIAM_LOSS = -Rational", "SIMSIAM_LOSS = Rational", "C1"),
    Mutant(_D + "ssl_loss.py", "Inner(mu[1] - f[2], mu[1] - f[2])", "Inner(mu[1] + f[2], mu[1] + f[2])", "C1"),
    Mutant(_D + "multimodal_vi.py", "LOSS = -expectation(log", "LOSS = expectation(log", "C3"),
    Mutant(_D + "multimodal_vi.py", "NEGATIVE_ELBO = -expectation", "NEGATIVE_ELBO = expectation", "C2"),
    Mutant(_D + "product_of_experts.py", "log(evidence) + (M - 1) *", "log(evidence) + M *", "C5"),
    Mutant(
        _D + "product_of_experts.py",
        "_log_normalizers - LogNormalizer(R),",
        "_log_normalizers + LogNormalizer(R),",
        "C4",
    ),
    Mutant(_D + "product_of_experts.py", "(1 - MeanResultantLength(", "(1 + MeanResultantLength(", "C16"),
    Mutant(
        _D + "product_of_experts.py",
        "(concentration - m) / (concentration + dim - 1 + m)",
        "(concentration - m) / (concentration + dim + m)",
        "C25",
    ),
    Mutant(_D + "contrastive.py", "(m, 1, N)) / N\nr", "(m, 1, N))\nr", "C35"),
    Mutant(_D + "contrastive.py", "info_nce(height) - N * log(N)", "info_nce(height) - log(N)", "C35"),
    Mutant(_D + "contrastive.py", "Sum(exp(height(m, f[n]))", "Sum(exp(height(m, f[m]))", "C35"),
    Mutant(
        _D + "contrastive.py", "RECONSTRUCTION + _expected(log(prior", "RECONSTRUCTION - _expected(log(prior", "C35"
    ),
    Mutant(
        _D + "notation.py", "isinstance(e, log) and e.args[0].is_Add", "isinstance(e, log) and e.args[0].is_Mul", "C35"
    ),
    Mutant(_D + "evaluation.py", "cosines[a - 1][b - 1] for", "cosines[b - 1][a - 1] for", "C12"),
    Mutant(_D + "notation.py", "rest.subs(variable, atoms[0].args[1])", "rest", "C7"),
    # the checker: what verifies must be able to fail
    Mutant(_V + "claim.py", "failures.append(", "len(", "", _CHECKER),
    Mutant(
        _V + "claim.py",
        "for derivation in derivations:\n                try",
        "for derivation in derivations[:1]:\n                try",
        "",
        _CHECKER,
    ),
    Mutant(_V + "claim.py", "return max(error if math", "return min(error if math", "", _CHECKER),
    Mutant(_V + "claim.py", "error if math.isfinite(error) else math.inf for", "error for", "", _CHECKER),
    Mutant(
        _V + "claim.py",
        "math.isfinite(outcome.error) and",
        "not math.isnan(outcome.error) and",
        "",
        _CHECKER + " " + _LEDGER,
    ),
    Mutant(_V + "claim.py", "errors += [", "errors = [", "", _CHECKER),
    Mutant(_V + "claim.py", "found = found.error", "found = 0.0", "", _CHECKER),
    Mutant(
        _V + "claim.py",
        "return abs(samples.mean().item() - expected)",
        "return (samples.mean().item() - expected)",
        "",
        _CHECKER,
    ),
    Mutant(_V + "claim.py", "math.sqrt(samples.numel())", "math.sqrt(2)", "", _CHECKER),
    Mutant(
        _V + "lab.py",
        "relative_error(self.loss(objective), self.derived",
        "relative_error(self.derived(expression), self.derived",
        "",
        _CHECKER,
    ),
    Mutant(_V + "lab.py", "units[1]] for m in units[0]]", "units[0]] for m in units[1]]", "", _CHECKER),
    Mutant(_V + "lab.py", "range(self.repeat)", "range(1)", "", _CHECKER),
    Mutant(_V + "lab.py", "default_rng(self.seed)", "default_rng(0)", "", _CHECKER),
    Mutant(
        _V + "lab.py",
        "max(1.0, abs(float(reference)), scale)",
        "(1.0 + abs(float(reference)) + scale) ** 2",
        "",
        _CHECKER,
    ),
    Mutant(
        _V + "claims_trained_encoder.py",
        "count * dim * z.mean(0).square()",
        "count * z.mean(0).square()",
        "",
        _AGGREGATE,
    ),
    Mutant(_V + "claims_trained_encoder.py", "square().sum() - 1 / dim)", "square().sum())", "", _AGGREGATE),
    Mutant(_V + "claims_trained_encoder.py", "freedom = (dim - 1)", "freedom = dim", "", _AGGREGATE),
    Mutant(_V + "claims_trained_encoder.py", '"all", normalized=True', '"all"', "", _AGGREGATE),
    Mutant(_V + "claims_trained_encoder.py", "(pull * unit).sum(-1, keepdim=True) * unit", "0 * unit", "", _AGGREGATE),
    Mutant(
        _V + "claims_trained_encoder.py",
        "return max(map(abs, tests))",
        "return max(map(abs, tests[:1]))",
        "",
        _AGGREGATE,
    ),
    Mutant(_V + "claims_trained_encoder.py", " + (not directions >= _FAR)", "", "", _AGGREGATE),
    Mutant(_V + "claims_trained_encoder.py", "not angle > _LEAST_ANGLE", "angle < _LEAST_ANGLE", "", _AGGREGATE),
    Mutant(_V + "claim.py", 'if "$" in text or marks', "if marks", "", _LEDGER),
    Mutant(_V + "lab.py", "(*values.values())", "(*sorted(values.values()))", "", _LEDGER),
    Mutant(_V + "ledger.py", "Outcome(math.inf, f", "Outcome(0.0, f", "", _LEDGER),
    Mutant(_V + "ledger.py", "(*found, *(erratum.as_claim() for erratum in ERRATA))", "found", "", _LEDGER),
    Mutant(_V + "ledger.py", "claims_trained_encoder trajectories", "claims_trained_encoder", "", _LEDGER),
    Mutant(_V + "ledger.py", "claim.check(Lab(lab.device, lab.seed))", "claim.check(lab)", "", _LEDGER),
    Mutant(_V + "errata.py", "abs(printed - corrected) > 1e-2", "abs(printed - corrected) >= 0", "", _LEDGER),
    Mutant(_V + "errata.py", "Outcome(abs(shipped - corrected)", "Outcome(abs(corrected - corrected)", "", _LEDGER),
    Mutant(_V + "report.py", 'if result.passed else "**FAILS**"', 'if result.outcome else "**FAILS**"', "", _COMMAND),
    Mutant(
        _V + "report.py",
        "for result in results if not result.passed]",
        "for result in results if result.passed]",
        "",
        _COMMAND,
    ),
    Mutant(_V + "report.py", "results and all(", "results and any(", "", _COMMAND),
    Mutant(_V + "trajectories.py", "max(0.0, claimed - measured)", "max(0.0, measured - claimed)", "", _CHECKER),
    Mutant(_V + "trajectories.py", "return math.nan if math.isnan(measured) else max(", "return max(", "", _CHECKER),
    Mutant(_V + "trajectories.py", "wrong = sum(not low < value", "wrong = sum(low > value", "", _CHECKER),
    Mutant(
        _V + "trajectories.py",
        "sum(not b.predictor_distance < c.predictor_distance",
        "sum(b.predictor_distance > c.predictor_distance",
        "",
        _CHECKER,
    ),
    Mutant(
        _V + "trajectories.py",
        'largest((worst["weights"], worst["buffers"]))',
        'largest((worst["weights"],))',
        "",
        _CHECKER,
    ),
    Mutant(_V + "trajectories.py", "ENOUGH_RISES) + stop_gradient.rises(full)", "ENOUGH_RISES)", "", _CHECKER),
    Mutant(_V + "witnesses.py", "return float(weight @ gap)", "return float(weight @ gap) * 1.0001", "", _CHECKER),
    Mutant(_D + "step.py", "[None] if self.symbolic else []", "[]", "", _CHECKER),
    Mutant(_D + "step.py", "self.left.has(M, N) or self.right.has(M, N)", "self.left.has(M)", "", _STEPS),
    Mutant(_D + "step.py", "cases += VIEWS", "cases += VIEWS[:1]", "", _CHECKER),
    Mutant(
        _D + "step.py",
        "residual == 0 or simplify(residual) == 0",
        "residual == 0 or simplify(residual) is not None",
        "",
        _CHECKER,
    ),
    Mutant(
        _D + "step.py",
        "canonical(before.right - after.left) != 0",
        "canonical(before.right - after.left) is None",
        "",
        _CHECKER,
    ),
    Mutant(
        _D + "step.py",
        "for step in self.steps:\n            step.verify()",
        "for step in self.steps[:1]:\n            step.verify()",
        "",
        _CHECKER,
    ),
    Mutant(_D + "step.py", "bool(diff(convex(x), x, 2).is_nonnegative) and ", "", "", _CHECKER),
    Mutant(_D + "step.py", "canonical(difference - (mean - of_mean)) == 0", "difference is not None", "", _CHECKER),
    Mutant(_D + "step.py", "bool(combined.is_nonnegative)", "bool(combined.is_real)", "", _CHECKER),
    Mutant(
        _D + "product_of_experts.py",
        ".subs(M, views).doit()) == 0:",
        ".subs(M, views).doit()) is not None:",
        "",
        _CHECKER,
    ),
    Mutant(_D + "notation.py", "if other.has(index)}", "if other is None}", "", _CHECKER),
    Mutant(_D + "notation.py", "if len(atoms) != 1:", "if not atoms:", "", _CHECKER),
    Mutant(_D + "normalizers.py", "plus == minus and (p", "(p", "", _CHECKER),
    Mutant(_D + "normalizers.py", "or simplify(weight - weight.subs(t, -t)) != 0", "", "", _CHECKER),
    Mutant(_D + "normalizers.py", "if multiple.has(_n) else", "if multiple is None else", "", _CHECKER),
    # what judges a training: probes, neighbours, splits
    Mutant(
        _JUDGING + "evaluation.py",
        "cosine.topk(k, dim=1)",
        "cosine.topk(k, dim=1, largest=False)",
        "",
        _NEIGHBOURS + "majority_vote_agrees_with_scikit_learn",
    ),
    Mutant(
        _JUDGING + "evaluation.py",
        "(cosine - cosine[:, :1]) / temp",
        "(cosine[:, :1] - cosine) / temp",
        "",
        _NEIGHBOURS + "weighted_vote_agrees_with_scikit_learn",
    ),
    Mutant(
        _JUDGING + "evaluation.py",
        "other = torch.where(nearest[:, 0] == row, nearest[:, 1], nearest[:, 0])",
        "other = nearest[:, 0]",
        "",
        _NEIGHBOURS + "nearest_other_is_found_among_all_other_images",
    ),
    Mutant(
        _JUDGING + "evaluation.py",
        "other = torch.where(nearest[:, 0] == row, nearest[:, 1], nearest[:, 0])",
        "other = nearest[:, 1]",
        "",
        _NEIGHBOURS + "an_image_is_not_its_own_neighbour_even_beside_its_copies",
    ),
    Mutant(
        _JUDGING + "evaluation.py",
        "train = normalize(train_features.to(dtype))",
        "train = train_features.to(dtype)",
        "",
        _NEIGHBOURS + "neighbours_do_not_depend_on_the_lengths_of_the_features",
    ),
    Mutant(
        _JUDGING + "linear_probe.py",
        "fitting.run(fitted, settings",
        "fitting.run(everything, settings",
        "",
        _PROBE + "views_are_asked_for_once_an_epoch_in_batches_for_all_candidates_and_never_for_held_out_images",
    ),
    Mutant(
        _JUDGING + "linear_probe.py",
        "train[held_out.to(device)], classes[targets[held_out.to(device)]]",
        "train[fitted.to(device)], classes[targets[fitted.to(device)]]",
        "",
        _PROBE + "candidates_trained_side_by_side_are_trained_as_if_alone",
    ),
    Mutant(
        _JUDGING + "linear_probe.py",
        "fitting.run(everything, (rate,))",
        "fitting.run(everything[::2], (rate,))",
        "",
        _PROBE + "views_are_asked_for_once_an_epoch_in_batches_for_all_candidates_and_never_for_held_out_images",
    ),
    Mutant(
        _JUDGING + "linear_probe.py",
        "return torch.tensor(fitted), torch.tensor(held_out)",
        "return torch.tensor(fitted + held_out), torch.tensor(held_out)",
        "",
        _PROBE + "held_out_images_are_a_fifth_of_every_class",
    ),
    Mutant(
        _JUDGING + "linear_probe.py",
        "stratify=labels.cpu(), random",
        "random",
        "",
        _PROBE + "held_out_images_are_a_fifth_of_every_class",
    ),
    Mutant(
        _JUDGING + "linear_probe.py",
        "-abs(math.log(rate",
        "abs(math.log(rate",
        "",
        _PROBE + "of_equally_good_rates_the_papers_wins",
    ),
    Mutant(
        _JUDGING + "linear_probe.py",
        "always_adapt=True",
        "always_adapt=False",
        "",
        _PROBE + "the_classifier_is_trained_by_the_formula_of_lars_and_not_by_sgd",
    ),
    Mutant(_JUDGING + "collapse.py", "float(math.sqrt(z.size(1)) * z.std", "float(z.std", "", _COLLAPSE_TESTS),
    Mutant(_JUDGING + "collapse.py", "svdvals(z - z.mean(0))", "svdvals(z)", "", _COLLAPSE_TESTS),
    Mutant(_JUDGING + "collapse.py", "STANDARD_DEVIATION or rank", "STANDARD_DEVIATION and rank", "", _STUDY_TESTS),
    Mutant(
        _JUDGING + "collapse.py", "return normalize(outputs.double())", "return outputs.double()", "", _COLLAPSE_TESTS
    ),
    Mutant(
        _JUDGING + "calibration.py",
        "(predicted if by is None else by).argsort",
        "observed.argsort",
        "",
        _CALIBRATION_TESTS,
    ),
    Mutant(
        _JUDGING + "calibration.py",
        "float((gap * self.count).sum() / self.count.sum())",
        "float(gap.mean())",
        "",
        _CALIBRATION_TESTS,
    ),
    Mutant(
        _JUDGING + "calibration.py",
        "float((self.predicted - self.observed).abs().max())",
        "float((self.predicted - self.observed).max())",
        "",
        _CALIBRATION_TESTS,
    ),
    Mutant(_JUDGING + "calibration.py", "cosine.mean().clamp(0", "cosine.median().clamp(0", "", _CALIBRATION_TESTS),
    Mutant(_JUDGING + "resampling.py", "tail = (1 - level) / 2", "tail = 1 - level", "", _RESAMPLING_TESTS),
    Mutant(
        _JUDGING + "resampling.py",
        "len(columns) if paired else",
        "len(columns) if not paired else",
        "",
        _RESAMPLING_TESTS,
    ),
    Mutant(
        _JUDGING + "resampling.py",
        "generator.integers(length, size=length)",
        "generator.permutation(length)",
        "",
        _RESAMPLING_TESTS,
    ),
    Mutant(_JUDGING + "resampling.py", "np.nanquantile(", "np.quantile(", "", _RESAMPLING_TESTS),
    Mutant(
        _JUDGING + "uncertainty.py", "(after == before).mean() / 2", "(after == before).mean()", "", _UNCERTAINTY_TESTS
    ),
    Mutant(
        _JUDGING + "uncertainty.py",
        "severity_correlations(-concentrations)",
        "severity_correlations(concentrations)",
        "",
        _UNCERTAINTY_TESTS,
    ),
    Mutant(_JUDGING + "uncertainty.py", "rank - explained @ (explained.T @ rank)", "rank", "", _UNCERTAINTY_TESTS),
    Mutant(
        _JUDGING + "selective_prediction.py",
        "- area_under_risk_coverage((~is_right)",
        "- area_under_risk_coverage(is_right",
        "",
        _SELECTIVE_TESTS,
    ),
    Mutant(
        "experiments/images/digits.py",
        "return first, second",
        "return first, first",
        "",
        _DIGITS_TESTS,
    ),
    Mutant(
        "experiments/pretraining/images.py",
        "voters[:count], voters[count:]",
        "voters[:count], voters",
        "",
        _MONITOR_TESTS,
    ),
    Mutant(
        "experiments/pretraining/images.py",
        "neighbours.labels, seen.features, held_out.labels",
        "neighbours.labels, bank.features, neighbours.labels",
        "",
        _MONITOR_TESTS,
    ),
    Mutant(
        "experiments/pretraining/images.py",
        "bank = represent(pair, neighbours)",
        "bank = represent(pair, held_out)",
        "",
        _MONITOR_TESTS,
    ),
    Mutant(
        "experiments/pretraining/images.py",
        "double(), percent / 100)",
        "double(), 1 - percent / 100)",
        "",
        _MONITOR_TESTS,
    ),
    # how a pair is fitted
    Mutant(_OBJECTIVE, "min(len(sites), len(atoms)) < 2", "len(sites) < 2", "", _OBJECTIVE_TESTS),
    Mutant(
        _FITTING + "stepwise.py",
        "rate = self.schedule(self.step)",
        "rate = self.schedule(self.step + 1)",
        "",
        _STEPWISE + "the_weights_are_those_of_a_loop_written_by_hand",
    ),
    Mutant(
        _FITTING + "stepwise.py",
        '{"params": own, "lr": self.predictor_rate}',
        '{"params": own}',
        "",
        _STEPWISE + "a_predictor_with_a_fixed_rate_takes_the_steps_of_sgd_with_two_groups",
    ),
    Mutant(
        _FITTING + "stepwise.py",
        "clip_grads_with_norm_(held, self.gradient_clip, norm)",
        "clip_grads_with_norm_(held, 2 * self.gradient_clip, norm)",
        "",
        _STEPWISE + "clipping_shortens_the_gradient_and_nothing_else",
    ),
    Mutant(
        _FITTING + "stepwise.py",
        "self._optimizer_state = optimizer_state",
        "self._optimizer_state = None",
        "",
        _STEPWISE + "a_fit_that_is_taken_up_at_any_step_ends_with_the_same_bits",
    ),
    Mutant(
        _FITTING + "stepwise.py",
        "self.target.update(self.pair, self.step)",
        "self.target.update(self.pair, self.step + 1)",
        "",
        _STEPWISE + "a_rising_momentum_is_that_of_the_step",
    ),
    Mutant(
        _FITTING + "targets.py",
        "avg_fn(self.momentum_after(step))",
        "avg_fn(1 - self.momentum_after(step))",
        "",
        _TARGET_TESTS,
    ),
    Mutant(
        _FITTING + "targets.py", "min(step, self.steps) / self", "min(step + 1, self.steps) / self", "", _TARGET_TESTS
    ),
    Mutant(_FITTING + "schedule.py", "/ (self.steps - self.warmup))", "/ self.steps)", "", _SCHEDULE_TESTS),
    Mutant(_FITTING + "schedule.py", "(step + 1) / (self.warmup + 1)", "step / (self.warmup + 1)", "", _SCHEDULE_TESTS),
    Mutant(
        _FITTING + "contrastive_objective.py",
        "by_expert.logsumexp(-1)",
        "by_expert.logsumexp(-2)",
        "",
        _CONTRASTIVE_TESTS,
    ),
    Mutant(
        _FITTING + "contrastive_objective.py",
        "logsumexp(-1) - math.log(",
        "logsumexp(-1) + math.log(",
        "",
        _CONTRASTIVE_TESTS,
    ),
    Mutant(
        _FITTING + "contrastive_objective.py",
        "diagonal(dim1=-2, dim2=-1) - log_average",
        "diagonal(dim1=-2, dim2=-1)",
        "C35",
    ),
    Mutant(
        _FITTING + "contrastive_objective.py",
        "atoms.unsqueeze(-2)",
        "atoms.roll(1, -2).unsqueeze(-2)",
        "C35",
    ),
    Mutant(
        _STORE,
        "network.named_parameters() if parameter.requires_grad}",
        "network.named_parameters()}",
        "",
        _STORE_TESTS,
    ),
    Mutant(_STORE, "parameter and entry in _NAMES", "parameter and entry is None", "", _STORE_TESTS),
    Mutant(_STORE, "parameter.copy_(entry)", "entry.copy_(parameter)", "", _STORE_TESTS),
    Mutant(_STORE, "if pyro.settings.get(", "if not pyro.settings.get(", "", _STORE_TESTS),
    # what says that a method is recovered, or a limit shows
    Mutant(_CASES + "recovery.py", "np.max([", "np.min([", "", _RECOVERY_TESTS),
    Mutant(
        _CASES + "recovery.py", "torch.stack(differences).max()", "torch.stack(differences).min()", "", _RECOVERY_TESTS
    ),
    Mutant(
        _CASES + "recovery.py",
        "(ours.gradients(), published.gradients())",
        "(ours.gradients(), ours.gradients())",
        "",
        _RECOVERY_TESTS,
    ),
    Mutant(
        _CASES + "recovery.py",
        "(ours.parts.parameters(), published.parts.parameters())",
        "(ours.parts.parameters(), ours.parts.parameters())",
        "",
        _RECOVERY_TESTS,
    ),
    Mutant(
        _CASES + "recovery.py",
        "(ours.parts.buffers(), published.parts.buffers())",
        "(ours.parts.buffers(), ours.parts.buffers())",
        "",
        _RECOVERY_TESTS,
    ),
    Mutant(_CASES + "recovery.py", "abs(mine - its)", "mine - its", "", _RECOVERY_TESTS),
    Mutant(_CASES + "recovery.py", "np.max([", "np.nanmax([", "", _NAN_TEST),
    Mutant(_CASES + "recovery.py", "return all(value <= TOL", "return any(value <= TOL", "", _RECOVERY_TESTS),
    # the study of uncertainty
    Mutant(
        _STUDY + "observations.py",
        "test.class_names == rivals.class_names",
        "test.class_names != rivals.class_names",
        "",
        _LOOK_TESTS,
    ),
    Mutant(
        _STUDY + "observations.py",
        "fresh_generator(seed, _PAIRS + number)",
        "fresh_generator(seed, _PAIRS)",
        "",
        _LOOK_TESTS,
    ),
    Mutant(_STUDY + "observations.py", "cosines(asked, answer)", "cosines(asked, asked)", "", _LOOK_TESTS),
    Mutant(
        _STUDY + "observations.py", "look, seed, same_class=False)", "look, seed, same_class=True)", "", _LOOK_TESTS
    ),
    Mutant(
        _STUDY + "rivals.py",
        "cosines(first, second) + cosines(second, first)",
        "cosines(first, first) + cosines(second, second)",
        "",
        _LOOK_TESTS,
    ),
    Mutant(_STUDY + "ambiguity.py", "step = 1 + (draw", "step = (draw", "", _STUDY_TESTS),
    Mutant(_STUDY + "measures.py", "[u, probed]", "[u, right]", "", _STUDY_TESTS),
    Mutant(_STUDY + "measures.py", "[-u, right], stat", "[u, right], stat", "", _STUDY_TESTS),
    Mutant(_STUDY + "report.py", "stdev(values) / math.sqrt(len(values))", "stdev(values)", "", _SEED_TESTS),
    Mutant(_STUDY + "report.py", "if all(met) else", "if any(met) else", "", _STUDY_TESTS),
)
