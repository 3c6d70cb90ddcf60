//! What is done to an image.

use std::io::Cursor;

use image::{
    DynamicImage, ImageError, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegEncoder,
    imageops::FilterType,
};

/// Pixels of a side, of what is asked for.
pub const SIDE_MAX: u32 = 2000;
/// Pixels of a side, of what comes.
const SIDE_MAX_OF_SOURCE: u32 = 6000;
/// Bytes of what is unpacked: 12 million pixels of four bytes, well below the memory a program has.
const UNPACKED_BYTES_MAX: u64 = 48 << 20;

/// Of JPEG, in percent.
const QUALITY: u8 = 85;

/// What is asked for. Of one side alone the other follows; of both the image fits in.
pub struct Filter {
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub gray: bool,
}

/// Why an image cannot be filtered.
#[derive(Debug, PartialEq)]
pub enum Unfit {
    /// Neither PNG nor JPEG.
    Kind,
    /// Too many pixels.
    Size,
    Broken(String),
}

impl Filter {
    /// The image that comes of an image, and its type.
    pub fn apply(&self, bytes: &[u8]) -> Result<(Vec<u8>, &'static str), Unfit> {
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|_| Unfit::Kind)?;
        let format = reader
            .format()
            .filter(|format| matches!(format, ImageFormat::Png | ImageFormat::Jpeg));
        let format = format.ok_or(Unfit::Kind)?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(SIDE_MAX_OF_SOURCE);
        limits.max_image_height = Some(SIDE_MAX_OF_SOURCE);
        limits.max_alloc = Some(UNPACKED_BYTES_MAX);
        reader.limits(limits);

        let mut image = reader.decode()?;
        if self.width.is_some() || self.height.is_some() {
            // Never larger than it was.
            let width = self.width.unwrap_or(SIDE_MAX).min(image.width());
            let height = self.height.unwrap_or(SIDE_MAX).min(image.height());
            image = image.resize(width, height, FilterType::Triangle);
        }
        if self.gray {
            image = image.grayscale();
        }
        Ok((written(&image, format)?, format.to_mime_type()))
    }
}

fn written(image: &DynamicImage, format: ImageFormat) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    match format {
        ImageFormat::Jpeg => {
            image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))?
        }
        _ => image.write_to(&mut Cursor::new(&mut bytes), format)?,
    }
    Ok(bytes)
}

impl From<ImageError> for Unfit {
    fn from(error: ImageError) -> Unfit {
        match error {
            ImageError::Limits(_) => Unfit::Size,
            ImageError::Unsupported(_) => Unfit::Kind,
            other => Unfit::Broken(other.to_string()),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use image::{GenericImageView, Rgb, RgbImage};

    use super::*;

    /// A red image.
    pub fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let image = RgbImage::from_pixel(width, height, Rgb([200, 0, 0]));
        written(&image.into(), format).unwrap()
    }

    pub fn read(bytes: &[u8]) -> DynamicImage {
        image::load_from_memory(bytes).unwrap()
    }

    fn dimensions(width: Option<u32>, height: Option<u32>) -> (u32, u32) {
        let filter = Filter {
            width,
            height,
            gray: false,
        };
        read(&filter.apply(&picture(100, 50, ImageFormat::Png)).unwrap().0).dimensions()
    }

    #[test]
    fn an_image_fits_into_what_was_asked_for_and_never_grows() {
        assert_eq!(dimensions(Some(10), None), (10, 5));
        assert_eq!(dimensions(None, Some(10)), (20, 10));
        assert_eq!(dimensions(Some(10), Some(1)), (2, 1));
        assert_eq!(dimensions(Some(1000), None), (100, 50));
        assert_eq!(dimensions(None, None), (100, 50));
    }

    #[test]
    fn too_many_pixels_are_refused_before_they_are_unpacked() {
        let filter = Filter {
            width: None,
            height: None,
            gray: false,
        };
        assert_eq!(
            filter.apply(&picture(6001, 1, ImageFormat::Png)),
            Err(Unfit::Size)
        );
        assert_eq!(filter.apply(b""), Err(Unfit::Kind));
    }
}
