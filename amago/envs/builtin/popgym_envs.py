"""POPGym, one environment or all at once."""

from amago.envs.builtin import forward

__getattr__, __all__ = forward(
    __name__,
    {
        "POPGymAMAGO": "envs_suite.popgym_envs",
        "MultiDomainPOPGym": "envs_suite.popgym_multi",
        "MultiDomainPOPGymAMAGO": "envs_suite.popgym_multi",
    },
)
