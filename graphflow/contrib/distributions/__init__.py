"""`tf.contrib.distributions`: those of `tf.distributions`, many more, and bijectors."""
from .. import _old_layout
from ...distributions import bijectors
from ...distributions.composed import *
from ...distributions.continuous import *
from ...distributions.discrete import *
from ...distributions.distribution import FULLY_REPARAMETERIZED, NOT_REPARAMETERIZED, Distribution, ReparameterizationType
from ...distributions.kullback_leibler import RegisterKL, kl_divergence
from ...distributions.multivariate import *
from ...distributions.sample_stats import percentile
from ...distributions.special import SeedStream, fill_triangular, softplus_inverse

__getattr__ = _old_layout(__name__)
