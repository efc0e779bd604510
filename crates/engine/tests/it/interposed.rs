//! The driver for files with something of a test's own in between.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use provault_domain::*;
use provault_driver::{
    CancelFlag, Capture, CaptureReport, Driver, DriverError, RestoreOutcome, RestoreRequest, Sink,
    Source, WorkContext,
};
use provault_driver_filesystem::FilesystemDriver;

/// What is done at the end of a read, or in place of a restore.
type Step = Arc<dyn Fn(&WorkContext<'_>) -> Result<(), DriverError> + Send + Sync>;

/// Backs up and restores as the driver for files does, but for what a test says.
#[derive(Default)]
pub struct Interposed {
    below: FilesystemDriver,
    read: Option<Step>,
    restore: Option<Step>,
    device: Option<&'static str>,
}

struct InterposedCapture {
    below: Box<dyn Capture>,
    read: Option<Step>,
}

impl Interposed {
    /// Does this when all of a source is read.
    pub fn after_read(
        self,
        step: impl Fn(&WorkContext<'_>) -> Result<(), DriverError> + Send + Sync + 'static,
    ) -> Self {
        Self { read: Some(Arc::new(step)), ..self }
    }

    /// Restores nothing, but does this, which fails.
    pub fn restoring(
        self,
        step: impl Fn(&WorkContext<'_>) -> Result<(), DriverError> + Send + Sync + 'static,
    ) -> Self {
        Self { restore: Some(Arc::new(step)), ..self }
    }

    /// Says that every restore writes over this device.
    pub fn onto(self, device: &'static str) -> Self {
        Self { device: Some(device), ..self }
    }
}

impl Capture for InterposedCapture {
    fn read_into(
        self: Box<Self>,
        sink: &mut dyn Sink,
        context: &WorkContext<'_>,
    ) -> Result<CaptureReport, DriverError> {
        let report = self.below.read_into(sink, context)?;
        if let Some(step) = &self.read {
            step(context)?;
        }
        Ok(report)
    }
}

impl Driver for Interposed {
    fn kind(&self) -> Kind {
        self.below.kind()
    }
    fn check_config(&self, config: &serde_json::Value) -> Result<serde_json::Value, Invalid> {
        self.below.check_config(config)
    }
    fn identity(&self, config: &serde_json::Value) -> String {
        self.below.identity(config)
    }
    fn capture(
        &self,
        resource: &Resource,
        cancel: &CancelFlag,
    ) -> Result<Box<dyn Capture>, DriverError> {
        let below = self.below.capture(resource, cancel)?;
        Ok(Box::new(InterposedCapture { below, read: self.read.clone() }))
    }
    fn restore_metadata(&self, resource: &Resource) -> BTreeMap<String, String> {
        self.below.restore_metadata(resource)
    }
    fn check_restore(&self, metadata: &BTreeMap<String, String>) -> Result<(), Invalid> {
        self.below.check_restore(metadata)
    }
    fn writes_over(&self, metadata: &BTreeMap<String, String>) -> Result<Option<String>, Invalid> {
        match self.device {
            Some(device) => Ok(Some(device.to_owned())),
            None => self.below.writes_over(metadata),
        }
    }
    fn writes_in_place(&self, _: &BTreeMap<String, String>) -> Option<PathBuf> {
        self.device.map(PathBuf::from)
    }
    fn restore(
        &self,
        request: &RestoreRequest<'_>,
        source: &dyn Source,
        context: &WorkContext<'_>,
    ) -> Result<RestoreOutcome, DriverError> {
        if let Some(step) = &self.restore {
            step(context)?;
        }
        self.below.restore(request, source, context)
    }
    fn discard_partial(&self, request: &RestoreRequest<'_>) -> Result<(), DriverError> {
        // A device has nothing beside it.
        if self.device.is_some() { Ok(()) } else { self.below.discard_partial(request) }
    }
}
