"""``python -m ofmu_jax_cli``: `ofmu-jax` where no script is on the path."""

from ofmu_jax_cli import main

if __name__ == "__main__":
    main()
