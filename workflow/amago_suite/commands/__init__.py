"""What the smaller commands do, one module each: check, compare, envs, gc and doctor, verify."""
