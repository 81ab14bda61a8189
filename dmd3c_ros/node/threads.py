"""How the threads of a network wait for each other on a CPU."""

# A network is hundreds of short parallel loops. By default a thread spins for milliseconds between
# two of them, and keeps the core from the middleware and the sensors' drivers; a thread that
# sleeps at once has to be woken each time, which costs a fifth of the whole frame. This many turns
# (microseconds) do neither.
ENVIRONMENT = {'GOMP_SPINCOUNT': '1000'}
