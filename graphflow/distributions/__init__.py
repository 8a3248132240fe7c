"""`tf.distributions`: batches of random variables with samples, densities, moments and divergences."""
from .continuous import Beta, Exponential, Gamma, Laplace, Normal, StudentT, Uniform
from .discrete import Bernoulli, Categorical, Multinomial
from .distribution import FULLY_REPARAMETERIZED, NOT_REPARAMETERIZED, Distribution, ReparameterizationType
from .kullback_leibler import RegisterKL, kl_divergence
from .multivariate import Dirichlet, DirichletMultinomial

__all__ = [n for n in dir() if not n.startswith("_")]
