// Does with the official JavaScript client what it reads on standard input, one request a line, and answers each with one line.
//
// An answer is {"value": ...}, {"failure": the server's Status}, or {"fault": what went wrong in the client itself}.
// The only argument is a file beside which the client is installed.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const installed = createRequire(process.argv[2]).resolve("@kubernetes/client-node");
const k8s = await import(pathToFileURL(installed));

const MILLISECONDS = 60_000;
const PATCHES = {
  json: k8s.PatchStrategy.JsonPatch,
  merge: k8s.PatchStrategy.MergePatch,
  strategic: k8s.PatchStrategy.StrategicMergePatch,
  apply: k8s.PatchStrategy.ServerSideApply,
};

const config = new k8s.KubeConfig();
config.loadFromDefault();

/** Names of classes are made of the group's: rbac.authorization.k8s.io to RbacAuthorizationV1Api. */
function className({ group, version }) {
  const parts = [...(group || "core").replace(/\.k8s\.io$/, "").split("."), version, "api"];
  return parts.map((part) => part[0].toUpperCase() + part.slice(1)).join("");
}

/** A kind for which the client has methods of its own, with types for what they take and give. */
function typed({ resource, namespace }) {
  const api = config.makeApiClient(k8s[className(resource)]);
  const name = (namespace ? "Namespaced" : "") + resource.kind;
  const call = (verb, options, ...more) => api[verb + name]({ ...(namespace && { namespace }), ...options }, ...more);
  return { call, read: "read", own: (body) => k8s.loadYaml(JSON.stringify(body)) };
}

/** A kind that the client knows nothing of. */
function custom({ resource: { group, version, plural }, namespace }) {
  const api = config.makeApiClient(k8s.CustomObjectsApi);
  const place = { group, version, plural, namespace };
  return { call: (verb, options, ...more) => api[`${verb}NamespacedCustomObject`]({ ...place, ...options }, ...more), read: "get", own: (body) => body };
}

/** An object as the server wrote it: the client names some fields otherwise, `default` for example. */
function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object" || value instanceof Date) return value;
  const attributes = value.constructor?.getAttributeTypeMap?.() ?? [];
  const names = new Map(attributes.map(({ name, baseName }) => [name, baseName]));
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [names.get(name) ?? name, plain(field)]));
}

const contentType = (request) => k8s.setHeaderOptions("Content-Type", PATCHES[request.patch]);

const VERBS = {
  create: ({ body, dry_run }, { call, own }) => call("create", { body: own(body), ...(dry_run && { dryRun: "All" }) }),
  read: ({ name }, { call, read }) => call(read, { name }),
  list: async ({ label_selector, field_selector, limit }, { call }) => {
    const options = { labelSelector: label_selector || undefined, fieldSelector: field_selector || undefined };
    if (!limit) return call("list", options);
    const items = [];
    for (let token; ; ) {
      const page = await call("list", { ...options, limit, _continue: token });
      if (page.items.length > limit) throw new Error("a page holds too much");
      items.push(...page.items);
      token = plain(page.metadata).continue;
      if (!token) return { ...plain(page), items };
    }
  },
  replace: ({ name, body }, { call, own }) => call("replace", { name, body: own(body) }),
  patch: (request, { call }) => {
    const { name, body, manager, force } = request;
    const applied = request.patch === "apply" ? { fieldManager: manager, force } : {};
    return call("patch", { name, body, ...applied }, contentType(request));
  },
  delete: ({ name, uid }, { call }) => call("delete", { name, body: uid ? { preconditions: { uid } } : {} }),
  deletecollection: ({ label_selector }, { call }) => call("deleteCollection", { labelSelector: label_selector }),
  watch: (request) => beginWatch(request),
  events: async () => ({ events: await watching }),
};

/** The events of the watch that was begun last, when its object is deleted. */
let watching;

/** Begins a watch; done when the first event has come. */
function beginWatch({ resource, namespace, field_selector }) {
  const group = resource.group ? `/apis/${resource.group}` : "/api";
  const path = `${group}/${resource.version}${namespace ? `/namespaces/${namespace}` : ""}/${resource.plural}`;
  const events = [];
  return new Promise((begun, failed) => {
    watching = new Promise((deleted, missed) => {
      const timer = setTimeout(() => missed(new Error("the object was not seen to be deleted in time")), MILLISECONDS);
      const seen = (type, object) => {
        events.push({ type, object });
        begun(null);
        if (type === "DELETED") {
          clearTimeout(timer);
          deleted(events);
          connection.then((controller) => controller.abort());
        }
      };
      const connection = new k8s.Watch(config).watch(path, { fieldSelector: field_selector }, seen, (error) => error && failed(error));
    });
    watching.catch(() => {});
  });
}

/** What the server refused with, or how the client itself failed. */
function failed(error) {
  try {
    const status = typeof error.body === "string" ? JSON.parse(error.body) : error.body;
    if (status?.kind === "Status") return { failure: status };
  } catch {
    // Not what the server says.
  }
  return { fault: String(error?.stack ?? error) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const kind = request.resource.group.includes("steadfast") ? custom(request) : typed(request);
  const answer = await Promise.resolve()
    .then(() => VERBS[request.verb](request, kind))
    .then((value) => ({ value: plain(value) ?? null }), failed);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
