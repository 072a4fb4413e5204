"""/v1/bases: what all adapters of a tenant share."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from daemon import logs
from daemon.api.auth import BasisTraining, Exporting, OwnParts, Reader
from daemon.api.bodies import StrictRoute
from daemon.api.problems import documented
from daemon.api.schemas import BasisList, BasisRequest, BasisView
from daemon.api.views import basis_view

router = APIRouter(prefix="/v1/bases", tags=["bases"], route_class=StrictRoute)
OCTETS = "application/octet-stream"


@router.get("", response_model=BasisList, responses=documented(401, 403), summary="List bases")
def list_bases(parts: OwnParts, caller: Reader) -> BasisList:
    """Newest first; one that is being trained says how far it is."""
    bases = sorted(parts.store.bases(caller.tenant), key=lambda each: each.id, reverse=True)
    return BasisList(bases=[basis_view(each, parts.basis_progress(each.id)) for each in bases])


@router.post(
    "", status_code=202, response_model=BasisView, responses=documented(401, 403, 409, 422), summary="Train a basis"
)
def train_basis(parts: OwnParts, caller: BasisTraining, wanted: BasisRequest) -> BasisView:
    """Queue population training on the users who consented; GET /v1/bases says when it is ready."""
    basis = parts.store.open_basis(caller.tenant, wanted.name, "", parts.now())
    logs.write("basis_queued", {"basis": basis.id, "caller": caller.id})
    return basis_view(basis, None)


@router.get(
    "/{fingerprint}",
    response_class=Response,
    responses=documented(
        *(401, 403, 404, 422),
        own={
            200: {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}, "description": "the basis"}
        },
    ),
    summary="Fetch a basis",
)
def fetch_basis(
    parts: OwnParts, caller: Exporting, fingerprint: Annotated[str, Path(pattern="^[0-9a-f]{1,128}$")]
) -> Response:
    """The bytes for `plora.loads_basis`. They never change, so keep them."""
    content = parts.store.basis_content(fingerprint, caller.tenant)
    headers = {"ETag": f'"{fingerprint}"', "Cache-Control": "private, immutable"}
    return Response(content, headers=headers, media_type=OCTETS)
