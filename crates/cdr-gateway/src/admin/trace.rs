//! `GET /api/v1/trace`: the life of pushes, a page at a time.

use std::sync::Arc;

use cdr_dispatch::terms;
use cdr_spool::{Position, Query, ReadError, Search};
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::{Answer, json_answer, told};
use crate::{engine::Engine, traced::Traced};

/// Pushes of a page, unless the request says otherwise, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

/// What a request asks for.
struct Asked {
    kind: &'static str,
    text: String,
    after: Position,
    limit: usize,
}

/// The pushes that a query such as `number=138…&after=7&limit=20` names, each as `cdr-gateway trace --format json` tells it.
pub(super) async fn trace(engine: &Arc<Engine>, query: Option<&str>) -> Answer {
    let asked = match read(query.unwrap_or_default()) {
        Ok(asked) => asked,
        Err(message) => return told(StatusCode::BAD_REQUEST, &message),
    };
    let engine = Arc::clone(engine);
    match spawn_blocking(move || page(&engine, &asked)).await {
        Ok(Ok(page)) => json_answer(StatusCode::OK, &page),
        Ok(Err(error)) => told(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        Err(error) => told(StatusCode::INTERNAL_SERVER_ERROR, &format!("the search was broken off: {error}")),
    }
}

fn read(query: &str) -> Result<Asked, String> {
    let mut term = None;
    let (mut after, mut limit) = (Position(0), PAGE);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let number = || value.parse::<u64>().map_err(|_| format!("{name} is no number: {value:?}"));
        let named = match &*name {
            "session" => (terms::SESSION, value.into_owned()),
            "uuid" => (terms::UUID, value.into_owned()),
            "number" => {
                let national = terms::national(&value);
                (terms::NUMBER, national.ok_or_else(|| "number is no phone number".to_owned())?)
            }
            "after" => {
                after = Position(number()?);
                continue;
            }
            "limit" => {
                limit = usize::try_from(number()?).unwrap_or(LARGEST_PAGE).clamp(1, LARGEST_PAGE);
                continue;
            }
            _ => {
                return Err(format!(
                    "unknown parameter {name:?}; there are session, uuid, number, after and limit"
                ));
            }
        };
        if term.replace(named).is_some() {
            return Err("name one of session, uuid and number".to_owned());
        }
    }
    let (kind, text) = term.ok_or_else(|| "name one of session, uuid and number".to_owned())?;
    Ok(Asked { kind, text, after, limit })
}

fn page(engine: &Engine, asked: &Asked) -> Result<Value, ReadError> {
    let mut search = Search::open(&engine.started_with.spool.path, terms::of)?;
    let query = Query { term: Some((asked.kind, &asked.text)), after: asked.after, ..Query::default() };
    let lives = search.find(&query, asked.limit)?;
    let next = (lives.len() == asked.limit).then(|| lives.last().map(|life| life.push.position.0)).flatten();
    let routing = engine.dispatcher.pushes().routing();
    let lanes = engine.dispatcher.lanes();
    let sinks: Vec<String> = lanes.iter().map(|(sink, _)| sink.to_string()).collect();
    let away = lanes
        .into_iter()
        .filter_map(|(sink, lane)| Some((sink.to_string(), lane.now.paused?.reason)))
        .collect();
    let traced = |life| Traced::new(search.identity(), life, &sinks, Some(&routing.routes), &away).json();
    let pushes: Vec<Value> = lives.into_iter().map(traced).collect();
    Ok(json!({ "pushes": pushes, "after": next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_one_thing() {
        let asked = read("number=%2B86+138+0013+8000&after=7&limit=100000").unwrap();
        assert_eq!((asked.kind, asked.text.as_str()), (terms::NUMBER, "13800138000"));
        assert_eq!((asked.after, asked.limit), (Position(7), LARGEST_PAGE));
        for wrong in ["", "after=1", "session=a&uuid=b", "session=a&after=x", "number=abc", "sesion=a"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
