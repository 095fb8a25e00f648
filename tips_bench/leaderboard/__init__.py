"""Records and published numbers as a site, and what strangers may send to it.

    ranking         boards of records that may be compared, and the best of each
    standing        the order of models over boards, and how sure a place is
    bradley_terry   strengths of models from the pairs that met
    published       what papers report
    published_text  a record beside what papers report
    submission      what others send: every number recomputed

The site:

    site            records as static pages
    front           the front page: all scores, the order, cost
    share_image     the picture beside a link to the site
    versus          model against model, and a model against its earlier versions
    breakdown       a score class by class and sample by sample
    class_tables    classes that are hard for all, and that a model wins or loses
    sample_tables   the hardest samples, and those on which models differ
    site_files      names, the manifest, a folder that is replaced whole
    html            records and boards as what a page shows
    charts          inline SVG
    curves          robustness as a picture, SVG or PNG
    downloads       CSV and JSON at full precision
    run_report      one run as one HTML file
    serve           to the browsers of this machine
    publish         to a folder, a git repository or the hub
"""
