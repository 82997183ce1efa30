"""PyTorch's DataLoader with torchvision's transforms v2. It does what foveal's loader does, except for the anchors."""

import json
from pathlib import Path

import torch
from torchvision import io, tv_tensors
from torchvision.transforms import v2

MIN_SIZE, MAX_SIZE, DIVISOR = 512, 853, 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Coco(torch.utils.data.Dataset):
    """The images of a COCO file with their boxes: resized, randomly flipped, normalised."""

    def __init__(self, annotations, images):
        coco, self.folder = json.loads(Path(annotations).read_text()), Path(images)
        self.images, self.boxes = coco["images"], {}
        for a in coco["annotations"]:
            x, y, w, h = a["bbox"]
            self.boxes.setdefault(a["image_id"], []).append([x, y, x + w, y + h, a["category_id"]])
        self.transform = v2.Compose([
            v2.Resize(MIN_SIZE, max_size=MAX_SIZE, antialias=True),
            v2.RandomHorizontalFlip(0.5),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        record = self.images[index]
        path = str(self.folder / record["file_name"])
        image = io.decode_image(path, mode=io.ImageReadMode.RGB, apply_exif_orientation=True)
        rows = torch.tensor(self.boxes.get(record["id"], []), dtype=torch.float32).reshape(-1, 5)
        boxes = tv_tensors.BoundingBoxes(rows[:, :4], format="XYXY", canvas_size=image.shape[-2:])
        image, boxes = self.transform(tv_tensors.Image(image), boxes)
        return image.as_subclass(torch.Tensor), {"boxes": boxes.as_subclass(torch.Tensor), "labels": rows[:, 4].long()}


def collate(samples):
    """Pads a batch in the same way as GeneralizedRCNNTransform.batch_images."""
    images, targets = zip(*samples)
    height, width = (-(-max(i.shape[d] for i in images) // DIVISOR) * DIVISOR for d in (1, 2))
    batch = images[0].new_zeros(len(images), 3, height, width)
    for place, image in zip(batch, images):
        place[:, : image.shape[1], : image.shape[2]].copy_(image)
    return batch, targets


def loader(annotations, images, batch, workers):
    return torch.utils.data.DataLoader(Coco(annotations, images), batch_size=batch, shuffle=True, num_workers=workers,
                                       collate_fn=collate, persistent_workers=workers > 0)
