//! Constants that both `foveal-kernels` and `foveal-anchors` define, because neither crate depends on the other.

#[test]
fn kernels_and_anchors_agree() {
    assert_eq!(foveal_kernels::BREAKDOWN_LEVELS, foveal_anchors::LEVELS);
    assert_eq!(foveal_kernels::BACKGROUND, foveal_anchors::BACKGROUND);
    assert_eq!(foveal_kernels::IGNORE, foveal_anchors::IGNORE);
}
