//! The kinds of defects of a data set.

use serde::Serialize;

/// A kind of defect of a data set. In JSON it is written in snake case, for example `missing_image`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// The image file does not exist.
    MissingImage,
    /// The image file cannot be decoded, is truncated, or needs more memory than `data.max_image_bytes`.
    BrokenImage,
    /// The size of an image in the annotation file differs from the size of the image file.
    SizeMismatch,
    /// Two images of the annotation file have the same id. The first is used.
    DuplicateImage,
    /// An image of the annotation file has no file name.
    NoFileName,
    /// Two annotations have the same id. The first is used.
    DuplicateAnnotation,
    /// An annotation refers to an image that is not in the annotation file.
    UnknownImage,
    /// An annotation refers to a category that is not in the annotation file.
    UnknownCategory,
    /// A box has a coordinate that is not a finite number.
    NotFinite,
    /// A box has a width or height of 0 or less.
    EmptyBox,
    /// A box lies completely outside its image.
    OutsideBox,
    /// A record of `images` is not an object, or one of its fields has no meaning. Its annotations are left out too.
    ImageRecord,
    /// A record of `annotations` is not an object, or one of its fields has no meaning, such as a box of three numbers.
    AnnotationRecord,
    /// A record of `categories` is not an object, or one of its fields has no meaning.
    CategoryRecord,
    /// The annotation file does not give the size of an image, and the image files are not read.
    SizeUnknown,
    /// All boxes lie within 0 to 1, so that they look like fractions of the image. The data set cannot be used.
    Fractions,
    /// No object of the data set can be used, so that the data set cannot be used either.
    NoObjects,
    /// The annotation file has another defect.
    Other,
    /// The categories of the validation set differ from those of the training set in ids or names.
    OtherCategories,
    /// A box extends beyond the edge of its image by more than half a pixel. It is clipped and used.
    ClippedBox,
    /// The width or height of an object is below `data.min_box`. The object is dropped.
    SmallBox,
    /// The boxes of an image refer to its pixels as stored, without the EXIF orientation. The image is used without the
    /// EXIF orientation.
    StoredOrientation,
    /// The annotation file does not give the size of an image. The size of the image file is used.
    NoSize,
    /// The name of an image differs from that of its file in case, composed letters, separators or percent-encoding.
    OtherName,
    /// A category without objects has the name of another category. It is no class.
    DoubledCategory,
    /// A category of the supercategory `none`, which is the root of an export of Roboflow, has no objects. It is a
    /// class nevertheless.
    UnusedRoot,
    /// An object is of a class that `data.classes` drops. It is background or ignored.
    DroppedClass,
    /// A file is the image of several entries of the annotation file.
    RepeatedImage,
    /// Image files of one set have the same content.
    CopiedImage,
    /// Decoded images of one set are nearly equal, such as an image and a compressed or resized copy of it.
    SimilarImage,
    /// An image of the validation set is an image of the training set: one file, or two files of the same content.
    SharedImage,
    /// A decoded image of the validation set is nearly equal to one of the training set.
    SharedSimilarImage,
    /// File names of images differ only in case, so that they are one file on Windows and macOS.
    NameCase,
    /// All pixels of a decoded image have nearly the same colour.
    ConstantImage,
    /// A decoded image has no colours, unlike most images of the set.
    GreyImage,
    /// An object has exactly the box and the class of another one on its image.
    RepeatedBox,
    /// An object has nearly the box of another one of its class on its image.
    SimilarBox,
    /// Objects of two classes have nearly the same box.
    TwoClasses,
    /// A box looks like fractions of the image, unlike most boxes of the set.
    FractionBox,
    /// A box looks like two corners that are stored as `[x, y, width, height]`.
    CornerBox,
    /// A box covers its image.
    WholeImageBox,
    /// The width or height of a box is below two pixels, and not below `data.min_box`.
    TinyBox,
    /// The size of a box is far from that of the other objects of its class.
    SizeOutlier,
    /// The aspect ratio of a box is far from that of the other objects of its class.
    AspectOutlier,
    /// An image has annotations of objects, none of which can be used.
    AllDropped,
    /// An image has no annotations, unlike most images of the set.
    EmptyImage,
    /// A class has no object.
    UnusedClass,
    /// Names of classes are equal except for case, spaces, hyphens, underscores or the composition of letters.
    SimilarClass,
    /// The name of a class is empty, or begins or ends with white space.
    UnclearClass,
    /// A class with training objects has no object in the validation set, so that no metric measures it.
    ClassWithoutVal,
    /// A class with objects in the validation set has no training object, so that it cannot be learned.
    ClassWithoutTrain,
    /// The category ids of the annotations are those of the categories after they are moved by one.
    ShiftedCategories,
}

impl Problem {
    /// Returns whether a defect of this kind stops a run with `data.on_error = "fail"`. The others are corrected and
    /// only reported.
    pub fn is_error(self) -> bool {
        self < Problem::ClippedBox
    }

    /// Returns the plural noun that follows a count in a report.
    pub fn describe(self) -> &'static str {
        match self {
            Problem::MissingImage => "images not found",
            Problem::BrokenImage => "images that cannot be decoded",
            Problem::SizeMismatch => "images whose size differs from the annotation file",
            Problem::DuplicateImage => "image ids that are used more than once",
            Problem::NoFileName => "images without a file name",
            Problem::DuplicateAnnotation => "annotation ids that are used more than once",
            Problem::UnknownImage => "annotations of images that are not in the file",
            Problem::UnknownCategory => "annotations of categories that are not in the file",
            Problem::NotFinite => "boxes with a coordinate that is not a finite number",
            Problem::EmptyBox => "boxes without area",
            Problem::OutsideBox => "boxes completely outside their image",
            Problem::ImageRecord => "records of `images` that cannot be read",
            Problem::AnnotationRecord => "records of `annotations` that cannot be read",
            Problem::CategoryRecord => "records of `categories` that cannot be read",
            Problem::SizeUnknown => "images without a size, whose files are not read here",
            Problem::Fractions => "boxes within 0 to 1, which look like fractions of the image: expected pixels",
            Problem::NoObjects => "data set without a usable object",
            Problem::Other => "other defects of the annotation file",
            Problem::OtherCategories => "data set whose categories differ from those of the training set",
            Problem::ClippedBox => "boxes that extend beyond the edge of their image: clipped",
            Problem::SmallBox => "objects smaller than data.min_box: dropped",
            Problem::StoredOrientation => "images whose boxes ignore the EXIF orientation: loaded without it",
            Problem::NoSize => "images without a size in the annotation file: size read from the image file",
            Problem::OtherName => "images whose file has a similar name: read",
            Problem::DoubledCategory => "categories without objects and with the name of another category: no classes",
            Problem::UnusedRoot => "root category (supercategory \"none\") without objects: it is a class",
            Problem::DroppedClass => "objects of classes that data.classes drops",
            Problem::RepeatedImage => "image files that several entries have",
            Problem::CopiedImage => "groups of image files with the same content",
            Problem::SimilarImage => "groups of nearly equal images",
            Problem::SharedImage => "validation images that are training images too",
            Problem::SharedSimilarImage => "validation images that are nearly equal to a training image",
            Problem::NameCase => "file names that differ from another one only in case",
            Problem::ConstantImage => "images of a single colour",
            Problem::GreyImage => "images without colours, unlike most of the set",
            Problem::RepeatedBox => "objects with the box and the class of another one",
            Problem::SimilarBox => "objects with nearly the box of another one of their class",
            Problem::TwoClasses => "pairs of objects of two classes with nearly the same box",
            Problem::FractionBox => "boxes within 0 to 1, unlike most of the set: fractions of the image?",
            Problem::CornerBox => "boxes that look like two corners, [x1, y1, x2, y2]: expected [x, y, width, height]",
            Problem::WholeImageBox => "boxes as large as their image",
            Problem::TinyBox => "boxes with a side below 2 pixels",
            Problem::SizeOutlier => "boxes of a size far from the others of their class",
            Problem::AspectOutlier => "boxes of an aspect ratio far from the others of their class",
            Problem::AllDropped => "images none of whose objects can be used",
            Problem::EmptyImage => "images without annotations, unlike most of the set",
            Problem::UnusedClass => "classes without objects",
            Problem::SimilarClass => "classes with nearly the name of another one",
            Problem::UnclearClass => "classes whose name is empty or has spaces around it",
            Problem::ClassWithoutVal => "classes without validation objects, which no metric measures",
            Problem::ClassWithoutTrain => "classes without training objects, which cannot be learned",
            Problem::ShiftedCategories => "annotation files whose category ids look shifted",
        }
    }
}
