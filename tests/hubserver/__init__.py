r"""A small Hub for the tests, on loopback, which the unmodified huggingface_hub client takes for the real one.

Fixtures (see `conftest.py`):

    def test_pull(hub, machine):
        hub.seed("lab/brain", {"config.json": b"{}", "model.safetensors": weights}, private=True)
        hub.faults.cut("*/model.safetensors", after=11_000_000)
        desk = machine(token=hub.token)                      # an empty HOME and HF_HOME, HF_ENDPOINT at the hub
        desk.longigen("pull", "hf-hub:lab/brain")            # a process of its own; asserts the exit status
        assert hub.requests("GET", "*/model.safetensors")[-1].range == "bytes=10485760-"
        desk.longigen("pull", "hf-hub:lab/brain", HF_HUB_OFFLINE="1")
        machine().longigen("pull", "hf-hub:lab/brain", status=2)     # another machine, no token: not found
            desk.python("import huggingface_hub; ...", "argument")       # returns what it prints
        process = desk.start("-m", "longigen_cli", "pull", "…")      # a Popen: to kill it, or to run several

huggingface_hub reads its environment when it is imported: what runs in the tests' own process must be given endpoint,
token and cache (`HfApi(endpoint=hub.endpoint, token=hub.token)`). `Machine.longigen` forks a process that imports it
anew, see `commandline.run`; `Machine.python` and `Machine.start` start new ones.

What it serves: repositories of models (create, delete, private or not), tokens that may write, read or nothing
(`Hub.token`, `read_token`, `stranger_token`, or any text for a wrong one), LFS by `basic` uploads checked for size and
SHA-256, commits of one or many files and deletions, branches, tags, commit ids, history, squash, trees in pages, files
with ranges. LFS files are redirected to a server of another origin (`Hub.storage`) with signed addresses, as the Hub's
are. Object ids are git's. What it lacks: Xet, data sets and spaces, pull requests, gated repositories, `.gitignore`,
search, `expand`.

What goes wrong on request (`Hub.faults`): errors, delays, connections cut or stalled after so many bytes, a changed
byte, a short file.
"""

from hubserver.machine import Machine
from hubserver.server import Hub

__all__ = ["Hub", "Machine"]
