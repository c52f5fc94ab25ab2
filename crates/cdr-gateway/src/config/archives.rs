//! The sinks that archive, as places that can be read back.

use std::{fmt, sync::Arc};

use cdr_archive::Holding;
use cdr_core::{SettingFault, SinkConfig, SinkName, setting};
use cdr_sink_file::FileSettings;
use cdr_sink_s3::S3Settings;
use serde_json::Value;

use super::{
    faults::{Faults, at, path},
    layers::Layers,
};
use crate::manifests::delivered::DeliveredPush;

/// An archive of the configuration, to be read back.
pub struct Archive {
    /// The name of its sink.
    pub sink: String,
    /// The place where it lies.
    pub holding: Box<dyn Holding>,
    /// It does not hold what came, but that with numbers masked.
    pub is_masked: bool,
    /// The names of all sinks that are configured.
    pub configured: Arc<[String]>,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("sink", &self.sink).finish_non_exhaustive()
    }
}

impl Archive {
    /// The digest of the body that it got of a push, if that can be known.
    pub fn sha256_of(&self, push: &DeliveredPush) -> Option<[u8; 32]> {
        (!self.is_masked).then_some(push.sha256)
    }
}

/// All there are, in the order of their names.
///
/// # Errors
/// The faults of their settings, with paths from the top.
pub(super) fn all(layers: &Layers) -> Result<Vec<Archive>, Vec<SettingFault>> {
    let mut faults = Faults::default();
    let mut archives = Vec::new();
    let configured: Arc<[String]> = layers.names(&path(["sinks"])).into();
    for name in configured.iter().cloned() {
        let kinds = layers.names(&path(["sinks", &name]));
        let is = |kind: &str| kinds.iter().any(|known| known == kind);
        let built = if is(FileSettings::KIND) {
            layers
                .part(&path(["sinks", &name, FileSettings::KIND]), |own| holding::<FileSettings>(&name, own))
        } else if is(S3Settings::KIND) {
            layers.part(&path(["sinks", &name, S3Settings::KIND]), |own| holding::<S3Settings>(&name, own))
        } else {
            continue;
        };
        let is_masked = layers.get(&path(["sinks", &name, "mask"])).is_some_and(|mask| !mask.is_null());
        archives.extend(faults.take(built).map(|holding| Archive {
            sink: name,
            holding,
            is_masked,
            configured: Arc::clone(&configured),
        }));
    }
    if faults.0.is_empty() { Ok(archives) } else { Err(faults.0) }
}

fn holding<C>(name: &str, settings: Value) -> Result<Box<dyn Holding>, Vec<SettingFault>>
where
    C: SinkConfig,
    C::Sink: Holding,
{
    let name: SinkName = name.parse().map_err(|error| vec![at("", error)])?;
    let sink = setting::read::<C>(settings)?.build(&name).map_err(|error| error.0)?;
    Ok(Box::new(sink))
}
