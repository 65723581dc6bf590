"""Which tests run inside the machines.

Emulation is some twenty times slower than the host, so of tests/contract only the modules that
take less than about ten seconds there are named here. What must not run on the host's kernel
(function tracing, latency tracers, the top level) belongs in tests/vm/inside, with no mark.
"""

CONTRACT_MODULES = (
    "tests/contract/test_control_files.py",
    "tests/contract/test_decoder_real.py",
    "tests/contract/test_plan_is_true.py",
)
OPTIONS = ("-m", "tracefs", "-v", "-ra", "--durations=5")
INNER_TESTS = ("tests/vm/inside", *CONTRACT_MODULES, *OPTIONS)
_PEERS_KERNEL = "debian-6.12"
_PEERS_MODULE = "tests/vm/inside/test_peers.py"


def inner_tests(kernel: str) -> tuple[str, ...]:
    """Return what runs on one of the kernels: what other tools do is looked at on one of them."""
    if kernel == _PEERS_KERNEL:
        return INNER_TESTS
    return (*INNER_TESTS, f"--ignore={_PEERS_MODULE}")
