//! The assignment of resources to plans: what of each resource it needs, and a way to find those that a
//! plan's selections match without looking at every resource for every plan.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use crate::wildcard::has_wildcards;
use crate::{Arn, BackupSelection, Kind, Region, Tags};

/// What a selection looks at and a backup job is made of: a registered resource without all that only its
/// driver and its tests need. It reads from what a [`Resource`](crate::Resource) is written as.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AssignableResource {
    /// Its name in every API.
    pub arn: Arn,
    /// The site it is registered at.
    pub region: Region,
    /// Which driver captures it.
    pub kind: Kind,
    /// A name for people.
    pub name: String,
    /// Tags that selections look at.
    pub tags: Tags,
    /// Whether it is known from recovery points of an imported vault alone, and never assigned.
    #[serde(default)]
    pub imported: bool,
}

/// The resources of an account, laid out by ARN and by tag.
///
/// The layout only narrows: [`BackupSelection::matches`] has the last word on every resource.
#[derive(Debug, Clone, Default)]
pub struct Assignment {
    resources: Vec<AssignableResource>,
    by_arn: HashMap<Arn, usize>,
    by_tag: HashMap<String, HashMap<String, Vec<usize>>>,
}

impl Assignment {
    /// Lays out resources; they keep their order. Imported ones are left out.
    pub fn of(mut resources: Vec<AssignableResource>) -> Self {
        resources.retain(|resource| !resource.imported);
        let mut by_arn = HashMap::with_capacity(resources.len());
        let mut by_tag = HashMap::<String, HashMap<String, Vec<usize>>>::new();
        for (place, resource) in resources.iter().enumerate() {
            by_arn.insert(resource.arn.clone(), place);
            for (key, value) in &resource.tags {
                // Most tags are there already: no copy is made to find that out.
                if let Some(places) = by_tag.get_mut(key).and_then(|values| values.get_mut(value)) {
                    places.push(place);
                } else {
                    by_tag.entry(key.clone()).or_default().insert(value.clone(), vec![place]);
                }
            }
        }
        Self { resources, by_arn, by_tag }
    }

    /// Every resource that one of the selections matches, once, in the order they were given, each with the
    /// first selection that does.
    pub fn matched<'a>(
        &'a self,
        selections: &'a [BackupSelection],
    ) -> Vec<(&'a BackupSelection, &'a AssignableResource)> {
        let mut first = HashMap::new();
        for selection in selections {
            let matches = |place: &usize| {
                let resource = &self.resources[*place];
                selection.matches(&resource.arn, &resource.tags)
            };
            let mut enter = |place| {
                first.entry(place).or_insert(selection);
            };
            match self.candidates(selection) {
                Some(some) => some.into_iter().filter(matches).for_each(&mut enter),
                None => (0..self.resources.len()).filter(matches).for_each(&mut enter),
            }
        }
        let mut matched: Vec<_> = first.into_iter().collect();
        matched.sort_unstable_by_key(|(place, _)| *place);
        matched.into_iter().map(|(place, by)| (by, &self.resources[place])).collect()
    }

    /// The places of all resources that a selection may match; `None` where that may be any.
    fn candidates(&self, selection: &BackupSelection) -> Option<BTreeSet<usize>> {
        let tagged = |key: &str, value: &str| {
            let places = self.by_tag.get(key).and_then(|values| values.get(value));
            places.into_iter().flatten().copied()
        };
        // All conditions must hold: the ones with one value are all within the first of them.
        if let Some((key, value)) = selection.conditions.equal_tag() {
            return Some(tagged(key, value).collect());
        }
        let named = &selection.resources;
        let any = named.is_empty() && selection.list_of_tags.is_empty();
        if any || named.iter().any(|pattern| has_wildcards(pattern)) {
            return None;
        }
        let arns = named.iter().filter_map(|arn| arn.parse::<Arn>().ok());
        let named = arns.filter_map(|arn| self.by_arn.get(&arn).copied());
        let tags = selection.list_of_tags.iter().flat_map(|tag| tagged(&tag.key, &tag.value));
        Some(named.chain(tags).collect())
    }
}
