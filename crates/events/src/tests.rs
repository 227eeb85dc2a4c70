use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use super::*;

/// What was asked of a server that says yes to everything until an event is to be counted the second time: it is gone then.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Vec<(String, String, Value)>>>);

impl Server {
    fn client(&self) -> Client {
        let asked = Arc::clone(&self.0);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let asked = Arc::clone(&asked);
            async move {
                let (parts, body) = request.into_parts();
                let body: Value = serde_json::from_slice(&body.collect().await?.to_bytes())?;
                let is_gone = body["count"] == 3;
                asked.lock().unwrap().push((parts.method.to_string(), parts.uri.path().to_owned(), body));
                let answer = match is_gone {
                    true => json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "gone"}),
                    false => json!({"metadata": {}, "involvedObject": {}}),
                };
                let response = Response::builder().status(if is_gone { 404 } else { 200 });
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(response.body(Full::new(Bytes::from(answer.to_string())))?)
            }
        });
        Client::new(service, "default")
    }
}

#[tokio::test]
async fn what_happens_again_is_counted_and_an_event_that_is_gone_is_written_anew() {
    let server = Server::default();
    let source = Source { component: "kubelet", host: "n1".to_owned() };
    let recorder = Recorder::start(server.client(), source, Box::new(|| Timestamp::UNIX_EPOCH));
    let object =
        ObjectReference { kind: Some("Pod".into()), name: Some("web-0".into()), namespace: Some("a".into()), ..Default::default() };
    for _ in 0..3 {
        recorder.record_about(&object, Severity::Warning, "BackOff", "again".to_owned());
    }
    let asked = loop {
        tokio::task::yield_now().await;
        let asked = server.0.lock().unwrap().clone();
        if asked.len() >= 4 {
            break asked;
        }
    };
    let [(post, _, first), (patch, path, second), (_, _, third), (_, _, fourth)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((post.as_str(), patch.as_str()), ("POST", "PATCH"));
    let name = first["metadata"]["name"].as_str().unwrap();
    assert_eq!(path, &format!("/api/v1/namespaces/a/events/{name}"));
    assert_eq!((&first["source"]["host"], &first["reportingInstance"], &first["type"]), (&json!("n1"), &json!("n1"), &json!("Warning")));
    assert_eq!([&second["count"], &third["count"], &fourth["count"]], [2, 3, 1]);
    assert_ne!(fourth["metadata"]["name"], name);
}
