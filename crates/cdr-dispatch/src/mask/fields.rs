//! Which field is what. By name, wherever it stands: the sender's objects differ between actions and editions.

/// What a field holds, as far as masking asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A phone number.
    Number,
    /// A person's name, address or number in the staff.
    Name,
    /// The one or the other: an agent is told by a mail address, a customer by a number.
    NumberOrName,
    /// What people wrote or pressed, which may hold anything.
    FreeText,
    /// None of these, though it may stand among them.
    Plain,
}

const FIELDS: [(&str, Kind); 23] = [
    ("Caller", Kind::Number),
    ("Callee", Kind::Number),
    ("ProtectedCaller", Kind::Number),
    ("ProtectedCallee", Kind::Number),
    ("Phone", Kind::Number),
    ("TelNumber", Kind::Number),
    ("ExtensionNumber", Kind::Number),
    ("EndpointUser", Kind::NumberOrName),
    ("TransferFrom", Kind::NumberOrName),
    ("TransferTo", Kind::NumberOrName),
    ("UserId", Kind::NumberOrName),
    ("Name", Kind::Name),
    ("Nick", Kind::Name),
    ("Mail", Kind::Name),
    ("StaffNumber", Kind::Name),
    ("UserNickName", Kind::Name),
    ("UserRemark", Kind::FreeText),
    ("Uui", Kind::FreeText),
    ("ClientData", Kind::FreeText),
    ("IVRKeyPressed", Kind::FreeText),
    ("IVRKeyPressedEx", Kind::FreeText),
    ("PostIVRKeyPressed", Kind::FreeText),
    // When a key was pressed; else a sink would read a time of the wrong type.
    ("Timestamp", Kind::Plain),
];

/// What a field of this name holds, in any case of its letters; none if it is no field that masking knows.
pub(super) fn kind(name: &str) -> Option<Kind> {
    FIELDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, kind)| kind)
}
