"""Says in one line which file an environment lacks; run by the Python of the environment's family.

    .venv-atari/bin/python -m envs_suite.files retro '{"game": "1942-Nes-v0"}'

Exit code 0 where nothing is missing, else 2.
"""

from __future__ import annotations

import json
import sys

import envs_suite
from amago.errors import ConfigurationError


def main(arguments: list[str]) -> int:
    """Check the files of one environment.

    Args:
        arguments: registry id, and parameters as JSON.
    """
    env_id, params = arguments
    try:
        spec = envs_suite.get(env_id)
        spec.check_files(spec.check(json.loads(params)))
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
