//! Whether the server is well: `/healthz`, `/livez` and `/readyz`, each of several checks that have names.

use std::time::Duration;

use http::StatusCode;

use crate::context::Shared;
use crate::error::ApiError;
use crate::query::Query;
use crate::respond::{self, Response};

/// How long the store may take to answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The oldest form of the question.
    Healthy,
    /// Whether the process should be left alone rather than started again.
    Alive,
    /// Whether requests should be sent here.
    Ready,
}

impl Question {
    /// The path's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthz",
            Self::Alive => "livez",
            Self::Ready => "readyz",
        }
    }
}

/// One check, and why it failed, if it did.
#[derive(Debug)]
struct Check {
    name: &'static str,
    failure: Option<String>,
}

/// Answers a question as a whole, or one check of it.
pub async fn answer(shared: &Shared, question: Question, check: &str, query: &str) -> Result<Response, ApiError> {
    let checks = checks(shared, question).await;
    if !check.is_empty() {
        let found = checks.iter().find(|own| own.name == check).ok_or(ApiError::NoPath)?;
        return Ok(match &found.failure {
            None => text(StatusCode::OK, "ok".to_owned()),
            Some(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
        });
    }
    let query = Query::parse(query);
    let excluded: Vec<_> = query.all("exclude").collect();
    Ok(summary(question, &checks, query.all("verbose").next().is_some(), &excluded))
}

async fn checks(shared: &Shared, question: Question) -> Vec<Check> {
    let read = tokio::time::timeout(DEADLINE, shared.store.get("/healthz")).await;
    let store = match read {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("the store did not answer within {} s", DEADLINE.as_secs())),
    };
    let mut checks = vec![Check { name: "ping", failure: None }, Check { name: "store", failure: store }];
    if question == Question::Ready {
        let stopping = shared.closing.is_cancelled().then(|| "the server is shutting down".to_owned());
        checks.push(Check { name: "shutdown", failure: stopping });
    }
    checks
}

/// In upstream's words. Why something failed is told only to who asks for that check, and in the log.
fn summary(question: Question, checks: &[Check], verbose: bool, excluded: &[&str]) -> Response {
    let (mut lines, mut failed) = (String::new(), false);
    for Check { name, failure } in checks {
        match failure {
            _ if excluded.contains(name) => lines.push_str(&format!("[+]{name} excluded: ok\n")),
            None => lines.push_str(&format!("[+]{name} ok\n")),
            Some(why) => {
                failed = true;
                tracing::warn!(check = name, why, "a health check fails");
                lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    let unknown: Vec<_> = excluded.iter().filter(|name| !checks.iter().any(|check| check.name == **name)).collect();
    if !unknown.is_empty() {
        let names: Vec<_> = unknown.iter().map(|name| format!("{name:?}")).collect();
        lines.push_str(&format!("warn: some health checks cannot be excluded: no matches for {}\n", names.join(",")));
    }
    match (failed, verbose) {
        (true, _) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{} check failed\n", question.name())),
        (false, true) => text(StatusCode::OK, format!("{lines}{} check passed\n", question.name())),
        (false, false) => text(StatusCode::OK, "ok".to_owned()),
    }
}

fn text(status: StatusCode, text: String) -> Response {
    let mut response = respond::typed(status, "text/plain; charset=utf-8", text);
    response.headers_mut().insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-cache, private"));
    response
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use http_body_util::BodyExt;

    use super::*;

    fn told(checks: &[Check], verbose: bool, excluded: &[&str]) -> (u16, String) {
        let response = summary(Question::Ready, checks, verbose, excluded);
        let code = response.status().as_u16();
        let body = response.into_body().collect().now_or_never().unwrap().unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn a_failed_check_fails_the_whole_unless_it_is_excluded() {
        let checks = [Check { name: "ping", failure: None }, Check { name: "store", failure: Some("secret".to_owned()) }];
        assert_eq!(told(&checks, false, &[]), (500, "[+]ping ok\n[-]store failed: reason withheld\nreadyz check failed\n".to_owned()));
        assert_eq!(told(&checks, false, &["store"]), (200, "ok".to_owned()));
        let (code, text) = told(&checks, true, &["store", "other"]);
        assert_eq!(code, 200);
        assert_eq!(
            text,
            "[+]ping ok\n[+]store excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"other\"\nreadyz check passed\n"
        );
    }
}
