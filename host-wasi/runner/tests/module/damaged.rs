//! Damaged images.
#[test]
fn dump() {
    use crate::harness::Image;
    use farrier_tests::images::{Damaged, scratch};
    for damaged in Damaged::all() {
        let file = damaged.make(&scratch("wasi-damaged"));
        let image = Image::new(&[file]);
        for words in [&["ls", "-lR", "@"][..], &["check", "@"]] {
            let out = image.run(None, words).unwrap();
            println!(
                "{} {:?} {} {}",
                damaged.name,
                words[0],
                out.code,
                String::from_utf8_lossy(&out.stderr)
            );
            if words[0] == "check" {
                println!("{}", String::from_utf8_lossy(&out.stdout));
            }
        }
    }
}
