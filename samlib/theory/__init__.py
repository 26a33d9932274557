"""Appendix D in numbers: importance weights of plain networks at the phantom of an ascent step, in closed form."""

from samlib.theory.importance import first_order, log_ratio, log_weights, phantom
from samlib.theory.network import Network, gradient_norm, hidden_layers, linear_estimate, logits, squared_norms

__all__ = [
    "Network",
    "first_order",
    "gradient_norm",
    "hidden_layers",
    "linear_estimate",
    "log_ratio",
    "log_weights",
    "logits",
    "phantom",
    "squared_norms",
]
