"""Records of the store as answers."""

import json
from dataclasses import asdict

from daemon.api.custody_schemas import ReceiptView, StageView
from daemon.api.schemas import BasisProgressView, BasisView, RunView, VersionView
from daemon.messages import BasisProgress
from daemon.telemetry_runs import trace_id_of
from storage import AdapterVersion, BasisRecord, Receipt, Run


def version_view(version: AdapterVersion) -> VersionView:
    return VersionView(
        version=version.version,
        state=version.state.value,
        code=version.code,
        reason=version.reason,
        scores=json.loads(version.scores),
        size_bytes=version.size_bytes,
        digest=version.digest,
        basis=version.basis,
        base=version.base,
        run=version.run,
        created_at=version.created_at,
    )


def run_view(run: Run) -> RunView:
    return RunView(
        run=run.id,
        user=run.user,
        state=run.state.value,
        reason=run.reason,
        attempts=run.attempts,
        error_code=run.error_code,
        error_reason=run.error_reason,
        trace=trace_id_of(run),
        created_at=run.created_at,
        finished_at=run.finished_at,
    )


def basis_view(basis: BasisRecord, progress: BasisProgress | None) -> BasisView:
    return BasisView(
        id=basis.id,
        name=basis.name,
        state=basis.state.value,
        fingerprint=basis.fingerprint,
        base=basis.base,
        size_bytes=basis.size_bytes,
        report=json.loads(basis.report) if basis.report else None,
        error_code=basis.error_code,
        progress=None if progress is None else BasisProgressView(**asdict(progress)),
        created_at=basis.created_at,
        finished_at=basis.finished_at,
    )


def receipt_view(receipt: Receipt) -> ReceiptView:
    return ReceiptView(
        user=receipt.user,
        tenant=receipt.tenant,
        complete=receipt.complete,
        final=receipt.final,
        stages=[StageView(name=stage.name, at=stage.at, due=stage.due) for stage in receipt.stages],
        runs=receipt.runs,
        events=receipt.events,
        versions=receipt.versions,
        signature=receipt.signature.hex(),
    )
