//! The rules of the other ends, on their way to the files.

use super::{Behind, Moved, Writer, additions, writing};
use crate::aggregate::Tally;
use crate::build::build;
use crate::pipeline::other_side::Asked;
use crate::pipeline::recorder::Need;

impl Writer {
    /// Asks the other ends of the rules of this run, and writes what is missing there where that is wanted.
    pub(super) fn other_sides(&mut self, moved: &mut Moved) {
        self.stage.is("asking the policies of the other ends");
        let cluster = self.screening.of_cluster();
        let asked = match self.sides.ask(&mut self.store, cluster.clone()) {
            Ok(asked) if asked.to_write.is_empty() => asked,
            Ok(asked) => {
                self.write_other_sides(asked, moved);
                match self.sides.ask(&mut self.store, cluster) {
                    Ok(asked) => asked,
                    Err(_) => return,
                }
            }
            // A directory that cannot be read is told when it is written to.
            Err(_) => return,
        };
        if let Some(recorder) = &mut self.recorder {
            for (subject, rule) in &asked.open {
                recorder.across(subject, rule, None);
            }
            for ((subject, rule), closed) in &asked.closed {
                let says = format!("{subject}: {rule} is not allowed there by {}", closed.why);
                recorder.across(&closed.subject, &closed.rule, Some(says));
            }
        }
        self.results.not_asked = self.sides.left_out();
        self.results.other_side = asked.closed;
    }

    fn write_other_sides(&mut self, asked: Asked, moved: &mut Moved) {
        let needs = asked.to_write.into_iter().map(|mirrored| (mirrored, Tally::default())).collect();
        let mut behind = build(needs).policies;
        self.confirm(&mut behind, moved);
        let additions = additions(&behind, &Behind::new());
        self.stage.is(writing(&additions, self.store.root()));
        let all = match self.store.apply(&additions) {
            Ok(all) => all,
            Err(e) => {
                // They are asked for again with the next window; at the end this is what the summary says.
                self.results.directory_error = Some(e.to_string());
                self.results.write_errors += 1;
                return;
            }
        };
        for applied in all {
            for rule in &applied.added {
                let missing = (applied.subject.clone(), rule.clone());
                let Some(need) = asked.closed.get(&missing) else { continue };
                let why = format!("{}: {}", need.subject, need.rule);
                if let Some(recorder) = &mut self.recorder {
                    let need = Need::Inferred(why.clone());
                    self.results.recorded.left_out +=
                        recorder.note(&applied.subject, rule.clone(), Vec::new(), &need);
                }
                self.results.inferred.insert(missing, why);
            }
            self.tell(&applied, None);
            self.results.take(applied);
        }
    }
}
