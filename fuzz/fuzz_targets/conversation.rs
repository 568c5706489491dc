//! Any bytes as a saved conversation: refused, or what is saved and loaded again is equal.
#![no_main]

use fuzz::chat::conversation::Conversation;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::with_files(&[("chat.json", bytes)], |folder| {
        let path = folder.join("chat.json");
        let load = || Conversation::load(&path);
        let Ok(conversation) = fuzz::bounded(bytes.len(), 64, 1 << 18, load) else { return };
        conversation.save(&path).expect("what is loaded can be saved");
        assert_eq!(Conversation::load(&path).expect("what is saved is loaded"), conversation);
        assert!(conversation.without_oldest(1).len() <= conversation.messages.len());
    });
});
