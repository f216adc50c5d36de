//! The fields of one JSON line, taken one by one so that an error can name its field.
//!
//! Knows neither files nor operations. Invariant: what is not taken is refused at the end.

use serde_json::{Map, Value};

use super::{Malformed, RequestId};

pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice(line) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) => Err("expected one JSON object per line".to_owned()),
            Err(error) => Err(format!("not a JSON object: {error}")),
        }
    }

    /// A number that must be there.
    pub(super) fn number(&mut self, field: &str) -> Result<u64, Malformed> {
        self.number_or_null(field)?.ok_or_else(|| Malformed::new(field, "must not be null"))
    }

    /// A number or null; the field itself must be there.
    pub(super) fn number_or_null(&mut self, field: &str) -> Result<Option<u64>, Malformed> {
        as_number(field, self.take(field)?)
    }

    /// A number, if the field is there.
    pub(super) fn number_if_there(&mut self, field: &str) -> Result<Option<u64>, Malformed> {
        match self.take(field) {
            Ok(found) => as_number(field, found),
            Err(_) => Ok(None),
        }
    }

    /// One of the words, as what it stands for.
    pub(super) fn word<T: Copy>(
        &mut self,
        field: &str,
        words: &[(&str, T)],
    ) -> Result<T, Malformed> {
        let found = self.take(field)?;
        let known = words.iter().find(|(word, _)| found.as_str() == Some(*word));
        known.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let problem = format!("{} is not one of {}", shown(&found), allowed.join(", "));
            Malformed::new(field, problem)
        })
    }

    /// `{session, sequence}` or null.
    pub(super) fn request(&mut self) -> Result<Option<RequestId>, Malformed> {
        let mut parts = match self.take("request")? {
            Value::Null => return Ok(None),
            Value::Object(map) => Self(map),
            other => {
                let problem = format!("{} is not null or {{session, sequence}}", shown(&other));
                return Err(Malformed::new("request", problem));
            }
        };
        let nested = |malformed: Malformed| {
            Malformed::new(&format!("request.{}", malformed.field), malformed.problem)
        };
        let session = parts.number("session").map_err(nested)?;
        let sequence = parts.number("sequence").map_err(nested)?;
        parts.end().map_err(nested)?;
        Ok(Some(RequestId { session, sequence }))
    }

    /// Refuses a field that nobody asked for.
    pub(super) fn end(self) -> Result<(), Malformed> {
        match self.0.keys().next() {
            Some(field) => Err(Malformed::new(&shortened(field), "no such field is known")),
            None => Ok(()),
        }
    }

    fn take(&mut self, field: &str) -> Result<Value, Malformed> {
        self.0.remove(field).ok_or_else(|| Malformed::new(field, "is missing"))
    }
}

fn as_number(field: &str, value: Value) -> Result<Option<u64>, Malformed> {
    match value {
        Value::Null => Ok(None),
        value => value.as_u64().map(Some).ok_or_else(|| {
            let problem = format!("{} is not a whole number from 0 to 2^64 - 1", shown(&value));
            Malformed::new(field, problem)
        }),
    }
}

fn shown(value: &Value) -> String {
    shortened(&value.to_string())
}

/// Errors quote what they refuse, but not all of it.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

const QUOTED_CHARS_MAX: usize = 40;
