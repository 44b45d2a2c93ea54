"""The endpoints for keys: made, listed and revoked by whoever has a key with the role ``admin``."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from serving.keys import Key, KeyRequest, KeyStore, NewKey, key_request
from serving.openapi import json_body
from serving.parts import Parts
from serving.requests import read_body
from serving.wire import KeyList, parse_object
from specification.errors import NotFound

MAX_REQUEST_BYTES = 2**14

router = APIRouter(prefix="/v1/keys", tags=["Keys"])


def _keys_of(parts: Parts) -> KeyStore:
    if parts.keys is None:
        raise NotFound("this gateway has no place for keys; 'slmdock serve' has one in the dock's folder")
    return parts.keys


Keys = Annotated[KeyStore, Depends(_keys_of)]


@router.get("")
async def list_keys(keys: Keys) -> KeyList:
    """Lists the keys, without their secrets."""
    return KeyList(data=await run_in_threadpool(keys.list_keys))


@router.post("", status_code=201, openapi_extra=json_body(KeyRequest, "The key to be made."))
async def create_key(request: Request, keys: Keys) -> NewKey:
    """Makes a key; the answer is the only one that ever holds its secret."""
    wanted = key_request(parse_object(await read_body(request, MAX_REQUEST_BYTES)))
    return await run_in_threadpool(keys.create_key, wanted)


@router.delete("/{id}")
async def revoke_key(keys: Keys, id: str) -> Key:
    """Revokes a key; it is refused from now on."""
    return await run_in_threadpool(keys.revoke_key, id)
