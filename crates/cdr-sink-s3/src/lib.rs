//! Archives pushes as objects in S3, Tencent COS and their like.
