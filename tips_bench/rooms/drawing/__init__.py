"""From triangles to images: meshes, textures, light, cameras.

mesh       triangle meshes of simple solids
piece      a piece of furniture in its own frame
assembly   pieces become one set of triangles
classes    the classes of rooms, and their names in real data sets
materials  colors, gloss and glow
textures   procedural textures
camera     pinhole cameras and a walk
tracer     ray casting with Open3D
shading    light that leaves a surface point
render     one frame: picture, labels, depth, normals
"""
