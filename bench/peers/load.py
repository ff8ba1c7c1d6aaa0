"""`bench.load`, with the jobs of peers."""

from __future__ import annotations

from bench.jobs import JOBS
from bench.load import main
from bench.peers.jobs import PatientMessages, Publishes

if __name__ == "__main__":
    JOBS["message"] = PatientMessages
    JOBS["post"] = Publishes
    main()
