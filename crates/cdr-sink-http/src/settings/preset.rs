//! Ready steps for CRMs that many use: the files in `presets/`, which docs/crm.md explains.

use schemars::JsonSchema;
use serde::Deserialize;

use super::StepSettings;

/// A CRM that there are ready steps for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// One flat object for each call.
    Generic,
    /// HubSpot.
    Hubspot,
    /// Salesforce.
    Salesforce,
    /// Zoho CRM.
    Zoho,
    /// Odoo 19 and later.
    Odoo,
    /// BottleCRM.
    Bottlecrm,
}

/// What a preset sets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Preselected {
    /// Where there is one address for all customers.
    pub url: Option<String>,
    pub steps: Vec<StepSettings>,
}

impl Preset {
    /// Its file.
    fn text(self) -> &'static str {
        match self {
            Self::Generic => include_str!("../../presets/generic.yaml"),
            Self::Hubspot => include_str!("../../presets/hubspot.yaml"),
            Self::Salesforce => include_str!("../../presets/salesforce.yaml"),
            Self::Zoho => include_str!("../../presets/zoho.yaml"),
            Self::Odoo => include_str!("../../presets/odoo.yaml"),
            Self::Bottlecrm => include_str!("../../presets/bottlecrm.yaml"),
        }
    }

    /// What it sets.
    ///
    /// # Errors
    /// Its file cannot be read, which a test excludes.
    pub(super) fn read(self) -> Result<Preselected, String> {
        serde_saphyr::from_str(self.text()).map_err(|error| format!("this preset cannot be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_can_be_read() {
        let presets = [
            Preset::Generic,
            Preset::Hubspot,
            Preset::Salesforce,
            Preset::Zoho,
            Preset::Odoo,
            Preset::Bottlecrm,
        ];
        for preset in presets {
            let read = preset.read().unwrap_or_else(|error| panic!("{preset:?}: {error}"));
            assert!(!read.steps.is_empty());
        }
    }
}
