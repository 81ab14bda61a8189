"""How the threads of a network wait for each other on a CPU."""

# A network is hundreds of short parallel loops. By default a thread spins for milliseconds between
# two of them, and keeps the core from the middleware and the sensor drivers; a thread that sleeps
# immediately has to be woken each time, which costs a fifth of the whole frame. This spin count
# (microseconds) avoids both. The policy is needed as well: without one, GNU OpenMP cuts the count
# to a tenth once a process has more threads than cores, including sleeping ones.
ENVIRONMENT = {'OMP_WAIT_POLICY': 'ACTIVE', 'GOMP_SPINCOUNT': '1000'}
