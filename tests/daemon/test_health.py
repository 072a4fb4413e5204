"""Probes, headers, and the OpenAPI document."""

import re

from fastapi.routing import APIRoute

from daemon.api import bases, events, health, operations, predictions, steering, users


def test_live_is_ok_and_ready_lists_causes(world):
    assert world.client.get("/livez").text == "ok\n"
    ready = world.client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "causes": []})


def test_every_answer_has_security_headers(world):
    for path in ("/livez", "/v1/users/ann", "/nowhere", "/metrics", "/docs"):
        headers = world.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


def test_every_route_is_documented_with_its_answers(world):
    document = world.client.get("/openapi.json").json()
    routers = (bases, events, health, operations, predictions, steering, users)
    routes = [route for each in routers for route in each.router.routes if isinstance(route, APIRoute)]
    assert len(routes) >= 17
    for route in routes:
        for method in route.methods - {"HEAD"}:
            operation = document["paths"][route.path][method.lower()]
            assert operation["summary"]
            assert operation["description"]
            assert operation["tags"]
            if route.path.startswith("/v1") and method != "OPTIONS":
                assert operation["security"] == [{"HTTPBearer": []}], route.path
                assert {"401", "403"} <= set(operation["responses"])
            for status, answer in operation["responses"].items():
                if int(status) >= 400 and route.path != "/readyz":
                    schema = answer["content"]["application/problem+json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ProblemDetails"}, (route.path, status)


def test_every_reference_of_the_document_resolves(world):
    response = world.client.get("/openapi.json")
    schemas = response.json()["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', response.text)) <= set(schemas)
    assert schemas["ProblemDetails"]["properties"]["code"]["description"]


def test_the_docs_page_names_every_route_and_loads_nothing(world):
    response = world.client.get("/docs")
    assert all(path in response.text for path in world.client.get("/openapi.json").json()["paths"])
    assert "script" not in response.text
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
