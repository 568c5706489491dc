//! A bundle's files as tower-http serves them, opened without following a link.

use std::future::Future;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use plain_file::Folder;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File};

type Later<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// The files of one folder.
#[derive(Debug, Clone)]
pub(super) struct Files(Arc<Folder>);

impl Files {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        Folder::open(folder).map(|folder| Files(Arc::new(folder)))
    }

    async fn open_file(self, path: PathBuf) -> io::Result<tokio::fs::File> {
        let opened = tokio::task::spawn_blocking(move || self.0.open_file(&relative(&path)?));
        opened.await?.map(tokio::fs::File::from_std)
    }
}

/// The path without the `.` that tower-http puts before it.
fn relative(path: &Path) -> io::Result<String> {
    let names = path.components().filter(|part| *part != Component::CurDir);
    let names: Option<Vec<&str>> = names.map(|part| part.as_os_str().to_str()).collect();
    Ok(names.ok_or(io::ErrorKind::InvalidInput)?.join("/"))
}

impl Backend for Files {
    type File = Opened;
    type Metadata = std::fs::Metadata;
    type OpenFuture = Later<'static, Opened>;
    type MetadataFuture = Later<'static, std::fs::Metadata>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let opened = self.clone().open_file(path);
        Box::pin(async move { opened.await.map(Opened) })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let opened = self.clone().open_file(path);
        Box::pin(async move { opened.await?.metadata().await })
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct Opened(tokio::fs::File);

impl File for Opened {
    type Metadata = std::fs::Metadata;
    type MetadataFuture<'a> = Later<'a, std::fs::Metadata>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        Box::pin(self.0.metadata())
    }
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncSeek for Opened {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.0).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.0).poll_complete(context)
    }
}
