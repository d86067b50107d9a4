//! "Did you mean …?": the nearest valid name for a mistyped one.

/// The candidate nearest to `name`, if it is near enough to be a plausible typo.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score >= 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, candidate)| candidate)
}

/// `did you mean 'x'?`, else the list of allowed names (at most ten), for use as a hint.
pub fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let mut all: Vec<&str> = candidates.into_iter().collect();
    if let Some(found) = nearest(name, all.iter().copied()) {
        return format!("did you mean '{found}'?");
    }
    if all.is_empty() {
        return "there are none yet".to_string();
    }
    all.sort_unstable();
    let more = if all.len() > 10 { ", …" } else { "" };
    format!("allowed: {}{more}", all.iter().take(10).copied().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_the_typo_or_lists_the_allowed() {
        assert_eq!(super::nearest("amuont", ["amount", "user_id"]), Some("amount"));
        assert_eq!(super::nearest("zzz", ["amount"]), None);
        assert_eq!(super::hint("zzz", ["b", "a"]), "allowed: a, b");
    }
}
