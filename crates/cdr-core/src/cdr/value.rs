//! The fields of a CDR for those who know them by name only, such as the conditions of routes.

/// What a published field holds when it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// A whole number.
    Integer,
    /// A text.
    Text,
    /// A text of the open set in [`end_status`](crate::end_status).
    Status,
    /// An object with these fields.
    Object(&'static [(&'static str, Shape)]),
    /// A list of these.
    List(&'static Shape),
}

/// The value of a field; texts are borrowed from the CDR.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// The field was absent, null or of a wrong type.
    Null,
    /// A whole number.
    Integer(i64),
    /// A text; of a status its published spelling.
    Text(&'a str),
    /// Every published field of an object, absent ones as null.
    Object(Vec<(&'static str, Value<'a>)>),
    /// A list, in order.
    List(Vec<Value<'a>>),
}
