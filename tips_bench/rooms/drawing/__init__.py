"""From triangles to images: meshes, textures, light, cameras."""
