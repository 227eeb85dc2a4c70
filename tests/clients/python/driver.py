"""Does with the official Python client what it reads on standard input, one request a line, and answers each with one line.

An answer is {"value": ...}, {"failure": the server's Status}, or {"fault": what went wrong in the client itself}."""

import json
import re
import sys
import threading
import traceback

from kubernetes import client, config, watch

PATCHES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
SECONDS = 60


def words(name):
    """PodDisruptionBudget to pod_disruption_budget."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class Typed:
    """A kind for which the client has methods of its own, with types for what they take and give."""

    def __init__(self, resource, namespace):
        group = "".join(part.capitalize() for part in (resource["group"] or "core").removesuffix(".k8s.io").split("."))
        self.api = getattr(client, group + resource["version"].capitalize() + "Api")()
        self.kind = ("namespaced_" if namespace else "") + words(resource["kind"])
        self.place = {"namespace": namespace} if namespace else {}

    def method(self, verb):
        return getattr(self.api, verb + "_" + self.kind)

    def call(self, verb, **arguments):
        return self.api.api_client.sanitize_for_serialization(self.method(verb)(**self.place, **arguments))


class Custom(Typed):
    """A kind that the client knows nothing of."""

    def __init__(self, resource, namespace):
        self.api = client.CustomObjectsApi()
        self.kind = "namespaced_custom_object" if namespace else "cluster_custom_object"
        self.place = {key: resource[key] for key in ("group", "version", "plural")}
        if namespace:
            self.place["namespace"] = namespace


class Watching(threading.Thread):
    """Collects the events of one object until it is deleted."""

    def __init__(self, kind, selector):
        super().__init__(daemon=True)
        self.kind, self.selector = kind, selector
        self.events, self.begun, self.error = [], threading.Event(), None

    def run(self):
        try:
            stream = watch.Watch().stream(
                self.kind.method("list"), **self.kind.place, field_selector=self.selector, timeout_seconds=SECONDS)
            for event in stream:
                self.events.append({"type": event["type"], "object": event["raw_object"]})
                self.begun.set()
                if event["type"] == "DELETED":
                    break
        except Exception as error:
            self.error = error
        self.begun.set()

    def wait(self, condition):
        condition(SECONDS)
        if self.error:
            raise self.error


class Driver:
    """Carries the requests out; remembers the watch between its two."""

    def __init__(self):
        self.watching = None

    def answer(self, request):
        kind = Custom if "steadfast" in request["resource"]["group"] else Typed
        return getattr(self, request["verb"])(request, kind(request["resource"], request["namespace"]))

    def create(self, request, kind):
        options = {"dry_run": "All"} if request["dry_run"] else {}
        return kind.call("create", body=request["body"], **options)

    def read(self, request, kind):
        return kind.call("get" if isinstance(kind, Custom) else "read", name=request["name"])

    def list(self, request, kind):
        options = {key: request[key] for key in ("label_selector", "field_selector") if request[key]}
        if not request["limit"]:
            return kind.call("list", **options)
        whole, token = None, ""
        while whole is None or token:
            page = kind.call("list", limit=request["limit"], _continue=token, **options)
            assert len(page["items"]) <= request["limit"], "a page holds too much"
            page["items"] = (whole["items"] if whole else []) + page["items"]
            whole, token = page, page["metadata"].get("continue")
        return whole

    def replace(self, request, kind):
        return kind.call("replace", name=request["name"], body=request["body"])

    def patch(self, request, kind):
        options = {"_content_type": PATCHES[request["patch"]]}
        if request["patch"] == "apply":
            options.update(field_manager=request["manager"], force=request["force"])
        return kind.call("patch", name=request["name"], body=request["body"], **options)

    def delete(self, request, kind):
        preconditions = client.V1Preconditions(uid=request["uid"]) if request["uid"] else None
        return kind.call("delete", name=request["name"], body=client.V1DeleteOptions(preconditions=preconditions))

    def deletecollection(self, request, kind):
        return kind.call("delete_collection", label_selector=request["label_selector"])

    def watch(self, request, kind):
        self.watching = Watching(kind, request["field_selector"])
        self.watching.start()
        self.watching.wait(self.watching.begun.wait)

    def events(self, request, kind):
        self.watching.wait(self.watching.join)
        return {"events": self.watching.events}


def main():
    config.load_kube_config()
    driver = Driver()
    for line in sys.stdin:
        try:
            answer = {"value": driver.answer(json.loads(line))}
        except client.ApiException as error:
            try:
                answer = {"failure": json.loads(error.body)}
            except (TypeError, ValueError):
                answer = {"fault": str(error)}
        except Exception:
            answer = {"fault": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


main()
