//! Changing a registered resource.

use serde::{Deserialize, Serialize};

use super::{Probe, Service};

message! {
    /// Changes a resource: what is absent stays as it is. Kind and settings of the kind stay always: other
    /// data is another resource.
    UpdateResourceInput {
        /// Another name, unique in the account. The ARN stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// How to start the application of a restored copy, in place of all that was said of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<Service>,
        /// There is no application to start any more. Not together with `Service`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remove_service: Option<bool>,
        /// All questions a restore test asks from now on; none when empty.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        probes: Option<Vec<Probe>>,
        /// Recovery point objective, seconds; 0 for none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rpo_seconds: Option<u64>,
        /// Recovery time objective, seconds; 0 for none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rto_seconds: Option<u64>,
    }
}
