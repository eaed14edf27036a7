"""Slurm: a batch job that starts a Ray cluster on its nodes, by sbatch."""

import shlex
import tempfile
from pathlib import Path

from sweep import target
from sweep.target import Job, answer, cluster_file

SCRIPT = "slurm/sweep.sbatch"


class Target(target.Target):
    def shown(self, job: Job) -> str:
        return f"# {shlex.join([*_sbatch(job), 'sweep.sbatch', *job.command])}\n{cluster_file(SCRIPT)}"

    def send(self, job: Job) -> str:
        with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
            script = Path(folder, "sweep.sbatch")
            script.write_text(cluster_file(SCRIPT))
            try:
                said = answer(*_sbatch(job), str(script), *job.command)
            except OSError as error:
                raise ValueError(f"Slurm does not take the job ({error}); correct conf/cluster/{SCRIPT}") from None
        return said.strip().partition(";")[0]  # of several clusters it says which

    def is_over(self, handle: str) -> bool:
        try:
            return not answer("squeue", "--noheader", "--format=%T", f"--jobs={handle}").strip()
        except OSError as error:
            if "Invalid job id" in str(error):  # it has forgotten it
                return True
            raise


def _sbatch(job: Job) -> list[str]:
    return ["sbatch", "--parsable", f"--job-name={job.id}"]
