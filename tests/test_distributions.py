"""`tf.distributions` and `tf.contrib.distributions`: densities and moments against SciPy, samples against their moments, gradients."""
from __future__ import annotations

import itertools

import numpy as np
import pytest
from on_gpu import QUICK
from scipy import stats

import graphflow as tf
from graphflow.flags import flags

td = tf.contrib.distributions
R = np.random.RandomState(0)


@pytest.fixture(autouse=True)
def _graph():
    with tf.Graph().as_default(), flags.override(interpret=QUICK):
        yield


def run(fetches, feeds=None):
    with tf.Session() as sess:
        return sess.run(fetches, feeds)


A, B = np.array([0.5, 1.5, 3.0]), np.array([2.0, 0.7, 1.2])

# what it is made of (in float64), the same of SciPy, values
SCALARS = {
    "Normal": (lambda: td.Normal(A, B), stats.norm(A, B), [-1.0, 0.3, 4.0]),
    "Normal in the tail": (lambda: td.Normal(np.float64(0), np.float64(1)), stats.norm(), [-30.0, -5.0, 9.0]),
    "Laplace": (lambda: td.Laplace(A, B), stats.laplace(A, B), [-1.0, 1.5, 4.0]),
    "Logistic": (lambda: td.Logistic(A, B), stats.logistic(A, B), [-1.0, 0.3, 4.0]),
    "Gumbel": (lambda: td.Gumbel(A, B), stats.gumbel_r(A, B), [-1.0, 0.3, 4.0]),
    "Cauchy": (lambda: td.Cauchy(A, B), stats.cauchy(A, B), [-1.0, 0.3, 4.0]),
    "HalfNormal": (lambda: td.HalfNormal(B), stats.halfnorm(scale=B), [0.1, 0.5, 3.0]),
    "Uniform": (lambda: td.Uniform(A, A + B), stats.uniform(A, B), [0.6, 1.6, 4.1]),
    "StudentT": (lambda: td.StudentT(B + 2, A, B), stats.t(B + 2, A, B), [-1.0, 0.3, 4.0]),
    "Gamma": (lambda: td.Gamma(A + 0.6, B), stats.gamma(A + 0.6, scale=1 / B), [0.1, 0.9, 3.0]),
    "InverseGamma": (lambda: td.InverseGamma(A + 2.1, B), stats.invgamma(A + 2.1, scale=B), [0.1, 0.9, 3.0]),
    "Exponential": (lambda: td.Exponential(B), stats.expon(scale=1 / B), [0.1, 0.9, 3.0]),
    "Chi2": (lambda: td.Chi2(A + 2), stats.chi2(A + 2), [0.1, 0.9, 3.0]),
    "Beta": (lambda: td.Beta(A + 1, B + 1), stats.beta(A + 1, B + 1), [0.1, 0.4, 0.9]),
    "Bernoulli": (lambda: td.Bernoulli(probs=A / 4, dtype=tf.float64), stats.bernoulli(A / 4), [0.0, 1.0, 1.0]),
    "Bernoulli of logits": (lambda: td.Bernoulli(np.log(A / (4 - A)), dtype=tf.float64), stats.bernoulli(A / 4), [0.0, 1.0, 1.0]),
    "Geometric": (lambda: td.Geometric(probs=A / 4), stats.geom(A / 4, loc=-1), [0.0, 1.0, 4.0]),
    "Binomial": (lambda: td.Binomial([3.0, 5.0, 6.0], probs=A / 4), stats.binom([3, 5, 6], A / 4), [0.0, 2.0, 4.0]),
    "NegativeBinomial": (lambda: td.NegativeBinomial([3.0, 5.0, 6.0], probs=A / 4), stats.nbinom([3, 5, 6], 1 - A / 4),
                         [0.0, 2.0, 4.0]),
    "Poisson": (lambda: td.Poisson(A + 0.3), stats.poisson(A + 0.3), [0.0, 2.0, 4.0]),
}
DISCRETE = ("Bernoulli", "Bernoulli of logits", "Geometric", "Binomial", "NegativeBinomial", "Poisson")


@pytest.mark.parametrize("name", SCALARS)
def test_scalar_distributions(name):
    """log_prob, prob, cdf and its kin, quantile, entropy, moments; what TF1 has no formula for raises NotImplementedError."""
    make, scipy, values = SCALARS[name]
    d, x = make(), np.array(values)
    discrete = name in DISCRETE
    expected = {"log_prob": scipy.logpmf(x) if discrete else scipy.logpdf(x), "prob": scipy.pmf(x) if discrete else scipy.pdf(x),
                "cdf": scipy.cdf(x), "log_cdf": scipy.logcdf(x), "survival_function": scipy.sf(x), "log_survival_function": scipy.logsf(x)}
    statistics = {"mean": scipy.mean(), "variance": scipy.var(), "stddev": scipy.std(), "entropy": scipy.entropy()}
    fetches, missing = {}, []
    for what in [*expected, "quantile", *statistics, "mode"]:
        f = getattr(d, what)
        try:
            fetches[what] = f(scipy.cdf(x)) if what == "quantile" else f(x) if what in expected else f()
        except NotImplementedError:
            missing.append(what)
    got = run(fetches)
    with_cdf = "Bernoulli" not in name
    cdfs = {"cdf", "log_cdf", "survival_function", "log_survival_function"}
    assert set(missing) <= {"quantile", "entropy"} | (set() if with_cdf else cdfs) | ({"mode"} if name == "Uniform" else set())
    for what in got:
        want = x if what == "quantile" else {**expected, **statistics}.get(what)
        if what == "quantile" and "tail" in name:
            continue  # the distribution function is 0 or 1 there
        if want is not None and not (what in ("mean", "variance", "stddev") and name == "Cauchy"):
            np.testing.assert_allclose(got[what], want, rtol=1e-7, atol=1e-9 if "log_surv" not in what else 1e-6, err_msg=what)
        assert np.shape(got[what]) == np.shape(x) or what in ("mean", "variance", "stddev", "entropy", "mode")
    if "mode" in got and np.min(got["mode"]) > 0 and "Bernoulli" not in name:
        steps = (-1.0, 0.0, 1.0) if discrete else (-1e-3, 0.0, 1e-3)
        below, here, above = run([d.log_prob(got["mode"] + step) for step in steps])
        assert (here >= below - 1e-9).all() and (here >= above - 1e-9).all()
    assert d.batch_shape == np.shape(scipy.mean()) and d.event_shape == () and d.dtype is tf.float64


@pytest.mark.parametrize("name", [n for n in SCALARS if n not in ("Normal in the tail", "Cauchy")])
def test_scalar_samples(name):
    make, scipy, _ = SCALARS[name]
    n = 4000
    with tf.Session() as sess:
        d = make()
        one, x, again = sess.run([d.sample(seed=3), d.sample(n, seed=3), d.sample([n], seed=3)])
    assert one.shape == d.batch_shape.as_list() == [3] or one.shape == (3,)
    assert x.shape == (n, 3) and x.dtype == np.float64 and np.array_equal(x, again)
    deviation = np.sqrt(scipy.var() / n)
    np.testing.assert_array_less(abs(x.mean(0) - scipy.mean()), 5 * deviation)
    kurtosis = np.nan_to_num(np.minimum(np.asarray(scipy.stats("k"), float), 60), nan=60, posinf=60)
    if np.isfinite(kurtosis).all() and name not in ("StudentT", "InverseGamma"):
        np.testing.assert_array_less(abs(x.var(0) - scipy.var()), 6 * scipy.var() * np.sqrt((kurtosis + 2) / n))
    if name not in DISCRETE:
        for i in range(3):
            u = np.asarray(scipy.cdf(x))[:, i]
            assert stats.kstest(u, "uniform").pvalue > 1e-4


def test_sample_shapes():
    d = td.Normal(tf.zeros([2, 1]), tf.ones([3]))
    sizes = tf.placeholder(tf.int32, [2])
    unknown = td.Normal(tf.placeholder_with_default(np.zeros((2, 3), np.float32), None), 1.0)
    samples = [d.sample(), d.sample(4), d.sample([4, 5]), d.sample(tf.TensorShape([4])), d.sample(tf.constant([4, 5])), d.sample(sizes),
               unknown.sample([4])]
    assert [s.shape.as_list() for s in samples[:6]] == [[2, 3], [4, 2, 3], [4, 5, 2, 3], [4, 2, 3], [4, 5, 2, 3], [None, None, 2, 3]]
    got = run(samples, {sizes: [4, 5]})
    assert [g.shape for g in got] == [(2, 3), (4, 2, 3), (4, 5, 2, 3), (4, 2, 3), (4, 5, 2, 3), (4, 5, 2, 3), (4, 2, 3)]
    shapes = run([d.batch_shape_tensor(), d.event_shape_tensor(), unknown.batch_shape_tensor(), d.is_scalar_event(), d.is_scalar_batch()])
    assert [np.ravel(s).tolist() for s in shapes] == [[2, 3], [], [2, 3], [True], [False]]
    assert unknown.batch_shape.ndims is None and d.log_prob(0.0).shape.as_list() == [2, 3]


def test_properties():
    d = tf.distributions.Normal(1.0, scale=2.0, name="N")
    assert (d.name, d.dtype, d.allow_nan_stats, d.validate_args) == ("N/", tf.float32, True, False)
    assert d.reparameterization_type is tf.distributions.FULLY_REPARAMETERIZED and d.loc.op.name == "N/loc"
    assert d.parameters == {"loc": 1.0, "scale": 2.0, "validate_args": False, "allow_nan_stats": True, "name": "N"}
    again = d.copy(scale=[3.0, 4.0])
    assert type(again) is tf.distributions.Normal and again.batch_shape == (2,) and run(again.loc) == 1
    assert d.sample().op.name.startswith("N/") and "sample" in d.sample().op.name
    assert td.Categorical(probs=[0.5, 0.5]).reparameterization_type is td.NOT_REPARAMETERIZED
    shapes = tf.distributions.Normal.param_static_shapes([3, 2])
    assert shapes == {"loc": tf.TensorShape([3, 2]), "scale": tf.TensorShape([3, 2])}
    assert run(tf.distributions.Normal.param_shapes([3]))["loc"].tolist() == [3]
    for kind in (td.NormalWithSoftplusScale, td.LaplaceWithSoftplusScale):
        np.testing.assert_allclose(run(kind(0.0, 1.0).scale), np.log1p(np.e), rtol=1e-6)
    assert td.Chi2(3.0).copy(df=5.0).parameters["df"] == 5.0


# ---------------------------------------------------------------- gradients


REPARAMETERIZED = {
    "Normal": lambda a, b: td.Normal(a, b), "Uniform": lambda a, b: td.Uniform(a, a + b), "Laplace": lambda a, b: td.Laplace(a, b),
    "Gamma": lambda a, b: td.Gamma(a, b), "Beta": lambda a, b: td.Beta(a, b), "StudentT": lambda a, b: td.StudentT(3.0 + a, b, a),
    "Exponential": lambda a, b: td.Exponential(a + 0.0 * b), "Gumbel": lambda a, b: td.Gumbel(a, b),
    "InverseGamma": lambda a, b: td.InverseGamma(3.0 + a, b), "Logistic": lambda a, b: td.Logistic(a, b),
}


@pytest.mark.parametrize("name", REPARAMETERIZED)
def test_gradients_through_samples(name):
    """d E[x] / d parameter: the mean of the gradients of many samples is the gradient of the mean."""
    n = 4000
    a, b = tf.constant([1.3], tf.float64), tf.constant([0.8], tf.float64)
    d = REPARAMETERIZED[name](a, b)
    x = d.sample(n, seed=1)
    slopes, means = tf.gradients(tf.reduce_mean(x), [a, b]), tf.gradients(d.mean(), [a, b])
    for got, want in zip(*run([slopes, [m if m is not None else tf.zeros([1]) for m in means]])):
        np.testing.assert_allclose(got, want, atol=0.12)


def test_gradients_of_gamma_are_those_of_its_quantiles():
    """z moves with a at a fixed P(a, z)."""
    a = tf.constant([0.4, 2.0, 15.0], tf.float64)
    z = td.Gamma(a, np.float64(1.0)).sample(5, seed=2)
    slope, value = run([tf.gradients(z[1:3], a)[0], z])
    step = 1e-5
    for i, alpha in enumerate([0.4, 2.0, 15.0]):
        p = stats.gamma(alpha).cdf(value[1:3, i])
        want = (stats.gamma(alpha + step).ppf(p) - stats.gamma(alpha - step).ppf(p)).sum() / (2 * step)
        np.testing.assert_allclose(slope[i], want, rtol=1e-4)


def test_gradients_of_log_prob():
    """A score is minus the sum of z / scale: trained by Adam, compiled, a normal finds its data's moments."""
    with flags.override(interpret=0):
        data = (R.randn(200) * 2 + 5).astype(np.float32)
        loc, scale = tf.Variable(0.0), tf.Variable(1.0)
        loss = -tf.reduce_mean(tf.distributions.Normal(loc, tf.nn.softplus(scale)).log_prob(data))
        step = tf.train.AdamOptimizer(0.2).minimize(loss)
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            for _ in range(200):
                sess.run(step)
            got = sess.run([loc, tf.nn.softplus(scale)])
    np.testing.assert_allclose(got, [data.mean(), data.std()], rtol=0.05)


# ---------------------------------------------------------------- classes and counts

P3 = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])


@pytest.mark.parametrize("given", ["probs", "logits"])
def test_categorical(given):
    parameters = {given: P3 if given == "probs" else np.log(P3) + 5}
    d, hot = td.Categorical(**parameters), td.OneHotCategorical(**parameters)
    k = np.array([2, 0])
    eye = np.eye(3)
    got = run([d.log_prob(k), d.prob([[0, 0], [1, 2]]), d.entropy(), d.mode(), d.event_size, d.probs, d.cdf(k), hot.log_prob(eye[k]),
               hot.mode(), hot.mean(), hot.variance(), hot.covariance(), hot.entropy()])
    entropy = -(P3 * np.log(P3)).sum(1)
    covariance = np.stack([np.diag(p) - np.outer(p, p) for p in P3])
    expected = [np.log([0.3, 0.6]), [[0.2, 0.6], [0.5, 0.1]], entropy, [1, 0], 3, P3, [1.0, 0.6], np.log([0.3, 0.6]), eye[[1, 0]], P3,
                P3 * (1 - P3), covariance, entropy]
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12)
    x, y = run([d.sample(3000, seed=1), hot.sample(3000, seed=1)])
    assert x.dtype == np.int32 and x.shape == (3000, 2) and y.shape == (3000, 2, 3) and (y.sum(-1) == 1).all()
    for i in range(2):
        np.testing.assert_allclose(np.bincount(x[:, i], minlength=3) / 3000, P3[i], atol=0.04)
        np.testing.assert_allclose(y[:, i].mean(0), P3[i], atol=0.04)


def test_multinomial_and_dirichlet():
    n, c = np.array([4.0, 6.0]), np.array([[1.5, 2.0, 3.0], [1.2, 4.0, 1.1]])
    counts = np.array([[1.0, 2.0, 1.0], [3.0, 0.0, 3.0]])
    p = np.array([[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]])
    m, d, dm = td.Multinomial(n, probs=P3), td.Dirichlet(c), td.DirichletMultinomial(n, c)
    got = run([m.log_prob(counts), m.mean(), m.variance(), m.covariance(), d.log_prob(p), d.mean(), d.variance(), d.covariance(),
               d.entropy(), d.mode(), dm.log_prob(counts), dm.mean(), dm.covariance()])
    pairs = list(range(2))
    multinomials = [stats.multinomial(int(n[i]), P3[i]) for i in pairs]
    dirichlets = [stats.dirichlet(c[i]) for i in pairs]
    mixed = [stats.dirichlet_multinomial(c[i], int(n[i])) for i in pairs]
    total = c.sum(1)
    dirichlet_covariance = [(np.diag(c[i] / total[i]) - np.outer(c[i], c[i]) / total[i] ** 2) / (total[i] + 1) for i in pairs]
    expected = [[multinomials[i].logpmf(counts[i]) for i in pairs], n[:, None] * P3, n[:, None] * P3 * (1 - P3),
                [multinomials[i].cov() for i in pairs], [dirichlets[i].logpdf(p[i]) for i in pairs], [x.mean() for x in dirichlets],
                [x.var() for x in dirichlets], dirichlet_covariance, [x.entropy() for x in dirichlets], (c - 1) / (total - 3)[:, None],
                [mixed[i].logpmf(counts[i].astype(int)) for i in pairs], [x.mean() for x in mixed], [x.cov() for x in mixed]]
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)
    x, y, z = run([m.sample(1500, seed=1), d.sample(1500, seed=1), dm.sample(1500, seed=1)])
    assert (x.sum(-1) == n).all() and (z.sum(-1) == n).all()
    np.testing.assert_allclose(y.sum(-1), 1)
    for sample, mean in ((x, expected[1]), (y, expected[5]), (z, expected[11])):
        np.testing.assert_allclose(sample.mean(0), mean, rtol=0.1, atol=0.05)
    np.testing.assert_allclose(np.cov(z[:, 0].T), mixed[0].cov(), atol=0.15)


# ---------------------------------------------------------------- vectors

LOC = np.array([[1.0, -1.0, 0.5], [0.0, 2.0, 1.0]])
TRIL = np.array([[1.0, 0, 0], [0.5, 2.0, 0], [-0.3, 0.2, 0.7]])
DIAG = np.array([1.0, 0.5, 2.0])
VECTORS = {
    "diag": (lambda: td.MultivariateNormalDiag(LOC, DIAG), np.diag(DIAG)),
    "diag and multiplier": (lambda: td.MultivariateNormalDiag(LOC, DIAG, np.float64(0.5)), np.diag(DIAG + 0.5)),
    "multiplier": (lambda: td.MultivariateNormalDiag(LOC, scale_identity_multiplier=np.float64(3.0)), 3 * np.eye(3)),
    "loc alone": (lambda: td.MultivariateNormalDiag(LOC), np.eye(3)),
    "triangular": (lambda: td.MultivariateNormalTriL(LOC, TRIL), TRIL),
    "full": (lambda: td.MultivariateNormalFullCovariance(LOC, TRIL @ TRIL.T), TRIL),
}


@pytest.mark.parametrize("name", VECTORS)
def test_multivariate_normal(name):
    make, scale = VECTORS[name]
    d, x = make(), R.randn(4, 2, 3)
    covariance = scale @ scale.T
    scipy = [stats.multivariate_normal(m, covariance) for m in LOC]
    got = run([d.log_prob(x), d.mean(), d.mode(), d.variance(), d.stddev(), d.covariance(), d.entropy(), d.sample(3000, seed=1)])
    expected = [np.stack([s.logpdf(x[:, i]) for i, s in enumerate(scipy)], 1), LOC, LOC, np.tile(np.diag(covariance), (2, 1)),
                np.sqrt(np.tile(np.diag(covariance), (2, 1))), np.tile(covariance, (2, 1, 1)), [s.entropy() for s in scipy]]
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
    assert d.batch_shape == (2,) and d.event_shape == (3,) and got[-1].shape == (3000, 2, 3)
    np.testing.assert_allclose(got[-1].mean(0), LOC, atol=0.25)
    np.testing.assert_allclose(np.cov(got[-1][:, 0].T), covariance, atol=0.15 * covariance.max())


def test_relaxed_one_hot():
    d, logs = td.RelaxedOneHotCategorical(0.5, probs=P3), td.ExpRelaxedOneHotCategorical(0.5, probs=P3)
    x = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    t, k = 0.5, 3
    density = [2 * t ** (k - 1) * np.prod(p / q ** (t + 1)) / np.sum(p / q ** t) ** k for p, q in zip(P3, x)]  # Maddison et al., (10)
    got = run([d.prob(x), logs.prob(np.log(x)) / x.prod(1), d.sample(3000, seed=1), logs.sample(5)])
    np.testing.assert_allclose(got[0], density, rtol=1e-7)
    np.testing.assert_allclose(got[1], density, rtol=1e-7)
    np.testing.assert_allclose(got[2].sum(-1), 1, rtol=1e-9)
    np.testing.assert_allclose(np.exp(got[3]).sum(-1), 1, rtol=1e-9)
    for i in range(2):  # the largest is distributed as the classes
        np.testing.assert_allclose(np.bincount(got[2][:, i].argmax(-1), minlength=3) / 3000, P3[i], atol=0.04)
    b = td.RelaxedBernoulli(0.5, probs=A / 4)
    y, sample = np.array([0.2, 0.5, 0.9]), run(b.sample(3000, seed=1))
    logit = np.log(y) - np.log1p(-y)
    want = stats.logistic(np.log(A / (4 - A)) / 0.5, 2.0).pdf(logit) / (y * (1 - y))
    np.testing.assert_allclose(run(b.prob(y)), want, rtol=1e-7)
    np.testing.assert_allclose((sample > 0.5).mean(0), A / 4, atol=0.04)


# ---------------------------------------------------------------- composed


def test_independent_and_mixtures():
    w = np.array([[0.3, 0.7], [0.6, 0.4]])
    cat = td.Categorical(probs=w)
    x = np.array([0.4, 1.7])
    parts = [(A[:2], B[:2]), (-A[:2], 2 * B[:2])]
    mixture = td.Mixture(cat, [td.Normal(*p) for p in parts])
    same = td.MixtureSameFamily(cat, td.Normal(*[np.stack([p[i] for p in parts], 1) for i in (0, 1)]))
    density = sum(w[:, i] * stats.norm(*p).pdf(x) for i, p in enumerate(parts))
    cdf = sum(w[:, i] * stats.norm(*p).cdf(x) for i, p in enumerate(parts))
    mean = sum(w[:, i] * p[0] for i, p in enumerate(parts))
    var = sum(w[:, i] * (p[1] ** 2 + (p[0] - mean) ** 2) for i, p in enumerate(parts))
    for d in (mixture, same):
        got = run([d.prob(x), d.cdf(x), d.mean(), d.variance(), d.sample(3000, seed=1)])
        for a, b in zip(got, [density, cdf, mean, var]):
            np.testing.assert_allclose(a, b, rtol=1e-7)
        assert d.batch_shape == (2,) and got[-1].shape == (3000, 2)
        np.testing.assert_allclose(got[-1].mean(0), mean, atol=0.15)
    vectors = td.MixtureSameFamily(td.Categorical(probs=w[0]), td.MultivariateNormalDiag(LOC, DIAG))
    point = np.array([0.3, 0.2, 0.1])
    want = sum(w[0][i] * stats.multivariate_normal(LOC[i], np.diag(DIAG ** 2)).pdf(point) for i in (0, 1))
    got = run([vectors.prob(point), vectors.mean(), vectors.sample(7)])
    np.testing.assert_allclose(got[0], want, rtol=1e-7)
    np.testing.assert_allclose(got[1], w[0] @ LOC, rtol=1e-7)
    assert got[2].shape == (7, 3) and vectors.event_shape == (3,)
    joint = td.Independent(td.Normal(LOC, np.ones((2, 3))), 1)
    assert joint.batch_shape == (2,) and joint.event_shape == (3,)
    got = run([joint.log_prob(LOC + 1), joint.entropy(), joint.sample(2)])
    np.testing.assert_allclose(got[0], 3 * stats.norm().logpdf(1), rtol=1e-7)
    np.testing.assert_allclose(got[1], 3 * stats.norm().entropy(), rtol=1e-7)
    assert got[2].shape == (2, 2, 3)


bij = td.bijectors
BIJECTORS = {
    "Exp": (lambda: bij.Exp(), np.exp, 0), "Softplus": (lambda: bij.Softplus(), lambda x: np.log1p(np.exp(x)), 0),
    "Softplus, softer": (lambda: bij.Softplus(2.0), lambda x: 2 * np.log1p(np.exp(x / 2)), 0),
    "Sigmoid": (lambda: bij.Sigmoid(), lambda x: 1 / (1 + np.exp(-x)), 0), "Identity": (lambda: bij.Identity(), lambda x: x, 0),
    "AffineScalar": (lambda: bij.AffineScalar(np.float64(1.0), np.float64(-3.0)), lambda x: 1 - 3 * x, 0),
    "Softsign": (lambda: bij.Softsign(), lambda x: x / (1 + abs(x)), 0),
    "PowerTransform": (lambda: bij.PowerTransform(0.1), lambda x: (1 + 0.1 * x) ** 10, 0),
    "Affine": (lambda: bij.Affine(LOC[0], scale_tril=TRIL), lambda x: LOC[0] + x @ TRIL.T, 1),
    "Affine of a diagonal": (lambda: bij.Affine(scale_diag=DIAG, scale_identity_multiplier=np.float64(1)), lambda x: x * (DIAG + 1), 1),
    "Affine of a multiple": (lambda: bij.Affine(scale_identity_multiplier=np.float64(2)), lambda x: 2 * x, 1),
    "Permute": (lambda: bij.Permute([2, 0, 1]), lambda x: x[..., [2, 0, 1]], 1),
    "Invert": (lambda: bij.Invert(bij.Softplus()), None, 0),
    "Chain": (lambda: bij.Chain([bij.Exp(), bij.Affine(LOC[0], scale_tril=TRIL)]), lambda x: np.exp(LOC[0] + x @ TRIL.T), 1),
    "Inline": (lambda: bij.Inline(tf.exp, tf.log, lambda y: -tf.log(y), lambda x: x, forward_min_event_ndims=0), np.exp, 0),
}


@pytest.mark.parametrize("name", BIJECTORS)
def test_bijectors(name):
    """The function, its inverse, and the determinant against differences."""
    make, forward, ndims = BIJECTORS[name]
    b, x = make(), np.array([[0.3, 0.7, 1.9]])
    y = b.forward(x)
    dets = b.forward_log_det_jacobian(x, ndims), b.inverse_log_det_jacobian(y, ndims), b.forward_log_det_jacobian(x, 1)
    got = run([y, b.inverse(y), *dets])
    if forward is not None:
        np.testing.assert_allclose(got[0], forward(x), rtol=1e-7)
        step = 1e-6
        columns = [(forward(x + step * e) - forward(x - step * e))[0] / (2 * step) for e in np.eye(3)]
        want = np.linalg.slogdet(np.stack(columns, 1))[1]
        np.testing.assert_allclose(np.sum(got[4]), want, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(got[1], x, rtol=1e-7)
    np.testing.assert_allclose(got[2] + np.zeros(np.shape(got[3])), -got[3], rtol=1e-6, atol=1e-9)


def test_softmax_centered():
    b, x = bij.SoftmaxCentered(), np.array([0.3, -0.7])
    y = b.forward(x)
    e = np.exp([0.3, -0.7, 0.0])
    got = run([y, b.inverse(y), b.forward_log_det_jacobian(x, 1), b.inverse_log_det_jacobian(y, 1)])
    np.testing.assert_allclose(got[0], e / e.sum(), rtol=1e-7)
    np.testing.assert_allclose(got[1], x, rtol=1e-7)
    np.testing.assert_allclose(got[2], -got[3], rtol=1e-7)
    assert b.forward_event_shape([5, 2]) == (5, 3)


def test_transformed_distribution():
    d = td.TransformedDistribution(td.Normal(A, B), bij.Exp(), name="LogNormal")
    scipy = stats.lognorm(B, scale=np.exp(A))
    x = np.array([0.5, 2.0, 30.0])
    down = td.TransformedDistribution(td.Normal(A, B), bij.AffineScalar(np.float64(1), np.float64(-2)))
    vector = td.TransformedDistribution(td.MultivariateNormalDiag(LOC), bij.Affine(scale_tril=TRIL))
    got = run([d.log_prob(x), d.cdf(x), d.quantile(scipy.cdf(x)), down.cdf(x), down.mean(), down.entropy(),
               vector.log_prob(LOC), d.sample(2)])
    reflected = stats.norm(1 - 2 * A, 2 * B)
    want = [scipy.logpdf(x), scipy.cdf(x), x, reflected.cdf(x), reflected.mean(), reflected.entropy(),
            [stats.multivariate_normal(TRIL @ m, TRIL @ TRIL.T).logpdf(m) for m in LOC]]
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert got[-1].shape == (2, 3)
    with pytest.raises(NotImplementedError, match="mean is not implemented: TransformedDistribution"):
        d.mean()


# ---------------------------------------------------------------- divergences

KL = {
    "Normal": lambda: (td.Normal(A, B), td.Normal(B, A)), "Bernoulli": lambda: (td.Bernoulli(probs=A / 4), td.Bernoulli(probs=B / 4)),
    "Categorical": lambda: (td.Categorical(probs=P3), td.Categorical(probs=P3[::-1].copy())),
    "Beta": lambda: (td.Beta(A, B), td.Beta(B, A)),
    "Gamma": lambda: (td.Gamma(A, B), td.Gamma(B, A)), "Dirichlet": lambda: (td.Dirichlet(P3 * 9), td.Dirichlet(P3 + 1)),
    "HalfNormal": lambda: (td.HalfNormal(A), td.HalfNormal(B)), "Gumbel": lambda: (td.Gumbel(A, B), td.Gumbel(B, A + 0.5)),
    "Exponential": lambda: (td.Exponential(A), td.Gamma(B, A)),
    "MultivariateNormal": lambda: (td.MultivariateNormalTriL(LOC, TRIL), td.MultivariateNormalDiag(LOC + 1, DIAG)),
    "MultivariateNormalDiag": lambda: (td.MultivariateNormalDiag(LOC, DIAG), td.MultivariateNormalDiag(LOC + 1, DIAG * 2)),
    "Independent": lambda: (td.Independent(td.Normal(LOC, LOC ** 2 + 1), 1), td.Independent(td.Normal(LOC * 2, LOC ** 2 + 2), 1)),
}


@pytest.mark.parametrize("name", KL)
def test_kl_divergence(name):
    """The mean of log a / b over samples of a."""
    a, b = KL[name]()
    x = a.sample(4000, seed=5)
    ratio = a.log_prob(x) - b.log_prob(x)
    kl, same, cross, ratios = run([a.kl_divergence(b), td.kl_divergence(a, a), a.cross_entropy(b) - a.entropy(), ratio])
    np.testing.assert_array_less(abs(ratios.mean(0) - kl), 5 * ratios.std(0) / np.sqrt(4000) + 1e-6)
    np.testing.assert_allclose(same, 0, atol=1e-9)
    np.testing.assert_allclose(cross, kl, rtol=1e-6)


def test_register_kl():
    class Mine(td.Normal):
        pass

    class Yours(tf.distributions.Laplace):
        pass

    with pytest.raises(NotImplementedError, match=r"type Mine and distribution_b type Yours"):
        td.kl_divergence(Mine(0.0, 1.0), Yours(0.0, 1.0))

    @tf.distributions.RegisterKL(Mine, td.Laplace)
    def _(a, b, name=None):
        return a.loc - b.loc

    assert run(td.kl_divergence(Mine(3.0, 1.0), Yours(1.0, 1.0))) == 2
    assert run(td.kl_divergence(Mine(3.0, 1.0), td.Normal(3.0, 1.0))) == 0
    with pytest.raises(ValueError, match="already been registered"):
        tf.distributions.RegisterKL(Mine, td.Laplace)(lambda a, b, name=None: 0)
    with pytest.raises(TypeError, match="must be callable"):
        tf.distributions.RegisterKL(Mine, Mine)(3)


# ---------------------------------------------------------------- users' own, helpers, bad input


def test_distribution_of_a_user():
    class Triangle(tf.distributions.Distribution):
        def __init__(self, name="Triangle"):
            super().__init__(tf.float32, tf.distributions.NOT_REPARAMETERIZED, False, True, name=name)

        def _batch_shape(self):
            return tf.TensorShape([])

        _event_shape = _batch_shape

        def _sample_n(self, n, seed=None):
            return tf.reduce_sum(tf.random_uniform([n, 2], seed=seed), 1)

        def _prob(self, x):
            return 1.0 - tf.abs(x - 1.0)

        def _stddev(self):
            return tf.constant(np.sqrt(1 / 6), tf.float32)

    d = Triangle()
    got = run([d.log_prob(0.5), d.variance(), d.sample([2, 3])])
    np.testing.assert_allclose(got[:2], [np.log(0.5), 1 / 6], rtol=1e-6)
    assert got[2].shape == (2, 3)
    with pytest.raises(NotImplementedError, match="entropy is not implemented: Triangle"):
        d.entropy()
    assert str(d).endswith('Triangle("Triangle/", batch_shape=(), event_shape=(), dtype=float32)')


def test_helpers():
    x = np.array([1e-8, 0.3, 2.0, 60.0])
    np.testing.assert_allclose(run(td.softplus_inverse(x)), np.log(np.expm1(x[:3])).tolist() + [60.0], rtol=1e-6)
    assert run(td.fill_triangular([1, 2, 3, 4, 5, 6])).tolist() == [[4, 0, 0], [6, 5, 0], [3, 2, 1]]
    assert run(td.fill_triangular([1, 2, 3, 4, 5, 6], upper=True)).tolist() == [[1, 2, 3], [0, 5, 6], [0, 0, 4]]
    stream = td.SeedStream(1, "salt")
    seeds = list(itertools.islice(iter(stream, None), 3))
    assert len(set(seeds)) == 3 and seeds[0] == td.SeedStream(1, "salt")() and td.SeedStream(None, "x")() is None


@pytest.mark.parametrize("call, error, text", [
    (lambda: td.Normal(0, 1), ValueError, "floating point"),
    (lambda: td.Normal(0.0, np.float64(1.0)), ValueError, "float64"),
    (lambda: td.Bernoulli(), ValueError, "Must pass probs or logits, but not both"),
    (lambda: td.Bernoulli(0.1, 0.1), ValueError, "but not both"),
    (lambda: td.Categorical(probs=[1, 0]), TypeError, "floating type"),
    (lambda: td.Categorical(logits=0.5), ValueError, "rank at least 1"),
    (lambda: td.Poisson(), ValueError, "exactly one of `rate` and `log_rate`"),
    (lambda: td.MultivariateNormalDiag(), ValueError, "Cannot infer `event_shape`"),
    (lambda: td.MultivariateNormalTriL(), ValueError, "Must specify one or both"),
    (lambda: td.Dirichlet(1.0), ValueError, "axis of components"),
    (lambda: td.Mixture(td.Normal(0.0, 1.0), [td.Normal(0.0, 1.0)]), TypeError, "cat must be a Categorical"),
    (lambda: td.Mixture(td.Categorical(probs=[1.0]), []), ValueError, "non-empty"),
    (lambda: td.Mixture(td.Categorical(probs=[0.5, 0.5]), [td.Normal(0.0, 1.0)]), ValueError, "2 vs. 1"),
    (lambda: td.MixtureSameFamily(td.Categorical(probs=[0.5, 0.5]), td.Normal(tf.zeros([3]), 1.0)), ValueError, "does not equal"),
    (lambda: td.Independent(td.Normal(0.0, 1.0), 1), ValueError, "cannot exceed"),
    (lambda: td.bijectors.Exp().forward_log_det_jacobian(0.0, -1), ValueError, "must be larger than"),
    (lambda: td.bijectors.Softplus(0.0), ValueError, "non-zero"),
    (lambda: td.bijectors.Permute([0, 0]), ValueError, "exactly one"),
    (lambda: td.TransformedDistribution(td.Normal(0.0, 1.0), None, [3]), NotImplementedError, "batch_shape"),
    (lambda: td.fill_triangular([1.0, 2.0]), ValueError, "triangular"),
    (lambda: td.StudentT(1.0, 0.0, 1.0).quantile(0.5), NotImplementedError, "quantile is not implemented: StudentT"),
])
def test_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("call, text", [
    (lambda: td.Normal(0.0, -1.0, validate_args=True).sample(), "scale must be positive"),
    (lambda: td.Uniform(1.0, 0.0, validate_args=True).sample(), "low >= high"),
    (lambda: td.Gamma(1.0, 1.0, validate_args=True).log_prob(-1.0), "Sample must be positive"),
    (lambda: td.Bernoulli(probs=1.5, validate_args=True).sample(), "greater than 1"),
    (lambda: td.Categorical(probs=[0.5, 0.4], validate_args=True).sample(), "does not sum to 1"),
    (lambda: td.Categorical(probs=[0.5, 0.5], validate_args=True).log_prob(2), "class number"),
    (lambda: td.Beta(0.5, 2.0, allow_nan_stats=False).mode(), "Mode undefined"),
    (lambda: td.StudentT([0.5, 2.0], 0.0, 1.0, allow_nan_stats=False).mean(), "df <= 1"),
])
def test_bad_values(call, text):
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        run(call())


def test_undefined_statistics_are_nan():
    t = td.StudentT([0.5, 1.5, 3.0], 0.0, 1.0)
    got = run([td.Beta([0.5, 2.0], 2.0).mode(), t.mean(), t.variance(), td.Gamma([0.5, 2.0], 1.0).mode(), td.Cauchy(0.0, 1.0).mean(),
               td.Uniform(1.0, 2.0).prob([0.5, 2.0, np.nan])])
    for a, b in zip(got, [[np.nan, 0.5], [np.nan, 0, 0], [np.nan, np.inf, 3], [np.nan, 1], np.nan, [0, 0, np.nan]]):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("interpolation", ["lower", "higher", "nearest"])
@pytest.mark.parametrize("axis", [None, 0, -1, [0, 2]])
def test_percentile(interpolation, axis):
    x = R.randn(3, 4, 5)
    along = tuple(axis) if isinstance(axis, list) else axis
    got = run([td.percentile(x, q, axis, interpolation, keep) for q, keep in ((30.0, False), (100, True), (0, False))])
    for value, q, keep in zip(got, (30, 100, 0), (False, True, False)):
        np.testing.assert_array_equal(value, np.percentile(x, q, along, method=interpolation, keepdims=keep))


def test_percentile_bad_input():
    for call, text in [(lambda: td.percentile([1.0], 3.0, interpolation="linear"), "interpolation"),
                       (lambda: td.percentile([1.0], [3.0]), "q must be a scalar"),
                       (lambda: td.percentile(tf.placeholder(tf.float32), 3.0, 0), "known rank")]:
        with pytest.raises(ValueError, match=text):
            call()
    with pytest.raises(tf.errors.InvalidArgumentError, match="q must be in"):
        run(td.percentile([1.0], 101.0, validate_args=True))
