//! Dirty bitmaps of qcow2 images.
//!
//! A bitmap counts the changes from the moment it is made. One is made before every capture and named
//! after its job, `provault-JOB`: so it belongs to the one recovery point that this job makes, and
//! nobody has to remember which. The next capture reads what the bitmap of its base names.
//!
//! * Made before the image is opened for reading: what changes in between is in the new bitmap and in the
//!   old one, which is one block read twice and never one too few.
//! * A job that fails takes its own bitmap back; the older one still counts from the older recovery point.
//!   After a crash the next capture finds a bitmap that belongs to no recovery point, and removes it.
//! * One that is inconsistent (its machine died), switched off or gone is not used: everything is read.
//! * An image that relies on another file is read as a whole: that file may change behind the bitmap's
//!   back.

use provault_driver::{BlockRange, DriverError, Lineage};

use crate::qemu::{Image, Info, Served};

/// What the names of our bitmaps begin with.
const PREFIX: &str = "provault-";

fn name_of(job_id: &str) -> String {
    format!("{PREFIX}{job_id}")
}

/// The bitmaps of an image.
pub(crate) struct Bitmaps<'a> {
    image: &'a Image,
    info: Info,
}

/// What an increment counts from.
pub(crate) struct Counted {
    /// What changed since the base; nothing where everything has to be read.
    pub changed: Option<Vec<BlockRange>>,
    /// Why everything is read, when that is not plain.
    pub note: Option<String>,
}

/// A capture whose bitmap counts already.
pub(crate) struct Begun<'a> {
    image: &'a Image,
    new: Option<String>,
    base: Option<String>,
    note: Option<String>,
}

impl<'a> Bitmaps<'a> {
    pub fn of(image: &'a Image) -> Result<Self, DriverError> {
        Ok(Self { image, info: image.info()? })
    }

    /// Removes our bitmaps but those of these jobs.
    pub fn give_back(&self, kept: &[String]) -> Result<(), DriverError> {
        let kept: Vec<String> = kept.iter().map(|job| name_of(job)).collect();
        for bitmap in &self.info.bitmaps {
            if bitmap.name.starts_with(PREFIX) && !kept.contains(&bitmap.name) {
                self.image.remove_bitmap(&bitmap.name)?;
            }
        }
        Ok(())
    }

    /// Makes the bitmap of this job, which counts from now on, and chooses the one to read.
    pub fn begin(&self, lineage: &Lineage) -> Result<Begun<'a>, DriverError> {
        let image = self.image;
        let full = |note: Option<String>| Begun { image, new: None, base: None, note };
        let Some(job) = &lineage.job_id else { return Ok(full(None)) };
        if let Some(other) = &self.info.relies_on {
            let note = format!(
                "All of it was read: the image relies on {other}, whose changes no bitmap of it counts."
            );
            return Ok(full(Some(note)));
        }
        // Also one of this very job, from an attempt that died.
        self.give_back(&lineage.kept)?;
        let new = name_of(job);
        self.image.add_bitmap(&new)?;
        let (base, note) = match &lineage.base {
            None => (None, None),
            Some(base) => match self.usable(&name_of(base)) {
                Ok(name) => (Some(name), None),
                Err(why) => (None, Some(format!("All of it was read: {why}"))),
            },
        };
        Ok(Begun { image, new: Some(new), base, note })
    }

    /// A bitmap that can be believed.
    fn usable(&self, name: &str) -> Result<String, String> {
        let of_base = "the bitmap that counts from the last recovery point";
        match self.info.bitmaps.iter().find(|bitmap| bitmap.name == name) {
            None => Err(format!("the image lacks {of_base}.")),
            Some(bitmap) if !bitmap.consistent => {
                Err(format!("{of_base} is inconsistent, as after a machine that did not end well."))
            }
            Some(bitmap) if !bitmap.enabled => Err(format!("{of_base} was switched off.")),
            Some(bitmap) => Ok(bitmap.name.clone()),
        }
    }
}

impl Begun<'_> {
    /// Opens the image, and reads the bitmap of the base.
    pub fn open(&self) -> Result<(Served, Counted), DriverError> {
        let mut note = self.note.clone();
        if let Some(base) = &self.base {
            let read = self.image.serve(Some(base)).and_then(|served| {
                let read = served.changes();
                let changed =
                    read.map_err(crate::capture::io_error("reading", self.image.path()))?;
                Ok((served, changed))
            });
            match read {
                Ok((served, changed)) => {
                    return Ok((served, Counted { changed: Some(changed), note }));
                }
                Err(error) => note = Some(format!("All of it was read: {error}.")),
            }
        }
        let served = self.image.serve(None)?;
        Ok((served, Counted { changed: None, note }))
    }

    /// Removes the bitmap of a job that makes no recovery point.
    pub fn take_back(&self) {
        let Some(new) = &self.new else { return };
        if let Err(error) = self.image.remove_bitmap(new) {
            tracing::warn!(%error, bitmap = new, "the bitmap of a failed backup is removed by the next");
        }
    }
}
