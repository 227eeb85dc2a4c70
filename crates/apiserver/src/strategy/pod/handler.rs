//! Probes and hooks: what is run, connected to or fetched.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::field::{FieldError, Path};
use crate::strategy::{check, names};

/// What one handler may do; exactly one must be given.
#[derive(Default)]
struct Actions {
    given: usize,
    errors: Vec<FieldError>,
}

impl Actions {
    fn add<T>(&mut self, action: Option<&T>, path: Path, validate: impl FnOnce(&T, &Path) -> Vec<FieldError>) {
        let Some(action) = action else { return };
        self.given += 1;
        if self.given > 1 {
            self.errors.push(FieldError::forbidden(path, "may not specify more than 1 handler type"));
        } else {
            self.errors.extend(validate(action, &path));
        }
    }

    fn finish(mut self, path: &Path) -> Vec<FieldError> {
        if self.given == 0 {
            self.errors.push(FieldError::required(path.clone(), "must specify a handler type"));
        }
        self.errors
    }
}

/// The probes and hooks of a container.
pub(super) fn validate(container: &Container, path: &Path, initial: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let sidecar = container.restart_policy.as_deref() == Some("Always");
    if initial && !sidecar {
        for (name, given) in [
            ("lifecycle", container.lifecycle.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ] {
            if given {
                errors.push(FieldError::forbidden(path.child(name), "may not be set for init containers without restartPolicy=Always"));
            }
        }
        return errors;
    }
    for (name, given, once) in [
        ("livenessProbe", &container.liveness_probe, true),
        ("readinessProbe", &container.readiness_probe, false),
        ("startupProbe", &container.startup_probe, true),
    ] {
        errors.extend(given.iter().flat_map(|given| probe(given, &path.child(name), name, once)));
    }
    if let Some(lifecycle) = &container.lifecycle {
        let path = path.child("lifecycle");
        errors.extend(lifecycle.post_start.iter().flat_map(|handler| hook(handler, &path.child("postStart"))));
        errors.extend(lifecycle.pre_stop.iter().flat_map(|handler| hook(handler, &path.child("preStop"))));
    }
    errors
}

fn probe(probe: &Probe, path: &Path, name: &str, once: bool) -> Vec<FieldError> {
    let mut actions = Actions::default();
    actions.add(probe.exec.as_ref(), path.child("exec"), |exec, path| command(exec.command.as_deref(), path));
    actions.add(probe.http_get.as_ref(), path.child("httpGet"), http_get);
    actions.add(probe.tcp_socket.as_ref(), path.child("tcpSocket"), |action, path| target(&action.port, path));
    actions.add(probe.grpc.as_ref(), path.child("grpc"), |action, path| target(&IntOrString::Int(action.port), path));
    let mut errors = actions.finish(path);
    for (field, number) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        errors.extend(check::non_negative(path.child(field), number));
    }
    if once && probe.success_threshold != Some(1) {
        errors.push(FieldError::invalid(path.child("successThreshold"), probe.success_threshold.unwrap_or(0), "must be 1"));
    }
    if let Some(period) = probe.termination_grace_period_seconds {
        let path = path.child("terminationGracePeriodSeconds");
        if name == "readinessProbe" {
            errors.push(FieldError::invalid(path, period, "must not be set for readinessProbes"));
        } else if period <= 0 {
            errors.push(FieldError::invalid(path, period, "must be greater than 0"));
        }
    }
    errors
}

fn hook(handler: &LifecycleHandler, path: &Path) -> Vec<FieldError> {
    let mut actions = Actions::default();
    actions.add(handler.exec.as_ref(), path.child("exec"), |exec, path| command(exec.command.as_deref(), path));
    actions.add(handler.http_get.as_ref(), path.child("httpGet"), http_get);
    actions.add(handler.tcp_socket.as_ref(), path.child("tcpSocket"), |action, path| target(&action.port, path));
    actions.add(handler.sleep.as_ref(), path.child("sleep"), |sleep, path| {
        check::non_negative(path.child("seconds"), Some(sleep.seconds)).into_iter().collect()
    });
    actions.finish(path)
}

fn command(command: Option<&[String]>, path: &Path) -> Vec<FieldError> {
    if command.unwrap_or_default().is_empty() { vec![FieldError::required(path.child("command"), "")] } else { Vec::new() }
}

fn target(port: &IntOrString, path: &Path) -> Vec<FieldError> {
    check::port(path.child("port"), port).into_iter().collect()
}

fn http_get(action: &HTTPGetAction, path: &Path) -> Vec<FieldError> {
    let mut errors = target(&action.port, path);
    errors.extend(check::required(path.child("path"), action.path.as_deref().unwrap_or_default()));
    errors.extend(check::one_of(path.child("scheme"), action.scheme.as_ref(), &["HTTP", "HTTPS"]));
    for header in action.http_headers.iter().flatten() {
        let good = !header.name.is_empty() && header.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !good {
            let detail = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            errors.push(FieldError::invalid(path.child("httpHeaders"), header.name.as_str(), detail));
        }
    }
    errors
}

/// The name of a resource field or a port that must be good even where nothing is run.
pub(super) fn port_name(path: Path, name: Option<&String>) -> Option<FieldError> {
    check::maybe_named(path, name, names::port)
}
