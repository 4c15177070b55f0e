"""Ten models with what admins have to do with: each kind of relation, of field, and of constraint."""

from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q


class Publisher(models.Model):
    name = models.CharField(max_length=60, unique=True)
    country = models.CharField(max_length=2, choices=[("de", "Germany"), ("fr", "France"), ("pe", "Peru")])
    founded = models.DateField(null=True, blank=True)
    website = models.URLField(blank=True)

    def __str__(self):
        return self.name


class Author(models.Model):
    name = models.CharField(max_length=60)
    email = models.EmailField(null=True, blank=True, unique=True)
    born = models.DateField(null=True, blank=True)
    biography = models.TextField(blank=True)
    notes = GenericRelation("Note")

    class Meta:
        ordering = ["name"]

    def __str__(self):
        return self.name


class Genre(models.Model):
    code = models.SlugField(primary_key=True)
    label = models.CharField(max_length=40)
    parent = models.ForeignKey("self", models.SET_NULL, null=True, blank=True)

    class Meta:
        ordering = ["label"]

    def __str__(self):
        return self.label


class Book(models.Model):
    class Status(models.TextChoices):
        DRAFT = "d", "draft"
        PRINTED = "p", "in print"
        GONE = "g", "out of print"

    title = models.CharField(max_length=80)
    isbn = models.CharField("ISBN", max_length=17, unique=True)
    author = models.ForeignKey(Author, models.PROTECT, related_name="books")
    publisher = models.ForeignKey(Publisher, models.SET_NULL, null=True, blank=True)
    genres = models.ManyToManyField(Genre, blank=True)
    published = models.DateField(null=True, blank=True)
    price = models.DecimalField(max_digits=7, decimal_places=2, validators=[MinValueValidator(0)])
    status = models.CharField(max_length=1, choices=Status, default=Status.DRAFT)
    details = models.JSONField(default=dict, blank=True)
    rare = models.BooleanField(default=False)
    created = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)
    notes = GenericRelation("Note")

    class Meta:
        ordering = ["title", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["author", "title"], name="a_title_once"),
            models.CheckConstraint(condition=Q(price__gte=0), name="a_price"),
        ]

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return f"/books/{self.pk}/"


class Shelf(models.Model):
    code = models.CharField(max_length=8, primary_key=True)
    room = models.CharField(max_length=30)
    metres = models.FloatField(default=1.5)

    class Meta:
        verbose_name_plural = "shelves"

    def __str__(self):
        return f"{self.code} in {self.room}"


class Copy(models.Model):
    book = models.ForeignKey(Book, models.CASCADE, related_name="copies")
    shelf = models.ForeignKey(Shelf, models.RESTRICT)
    barcode = models.CharField(max_length=12, unique=True)
    bought = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["barcode"]
        verbose_name_plural = "copies"

    def __str__(self):
        return self.barcode


class Reader(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    name = models.CharField(max_length=40)
    joined = models.DateField()
    favourites = models.ManyToManyField(Book, blank=True, related_name="admirers")
    borrowed = models.ManyToManyField(Copy, through="Loan")

    class Meta:
        ordering = ["name"]

    def __str__(self):
        return self.name


class Loan(models.Model):
    copy = models.ForeignKey(Copy, models.CASCADE, related_name="loans")
    reader = models.ForeignKey(Reader, models.CASCADE)
    lent = models.DateField()
    returned = models.DateField(null=True, blank=True)
    fine = models.DurationField(null=True, blank=True)

    class Meta:
        ordering = ["lent", "pk"]
        constraints = [models.CheckConstraint(condition=Q(returned__gte=F("lent")), name="returned_after_it_was_lent")]

    def __str__(self):
        return f"{self.copy} to {self.reader}"


class Review(models.Model):
    book = models.ForeignKey(Book, models.CASCADE, related_name="reviews")
    reader = models.ForeignKey(Reader, models.CASCADE, related_name="reviews")
    stars = models.PositiveSmallIntegerField(validators=[MinValueValidator(1), MaxValueValidator(5)])
    text = models.TextField(blank=True)

    class Meta:
        ordering = ["pk"]
        unique_together = [("book", "reader")]

    def __str__(self):
        return f"{self.stars} stars of {self.reader}"


class Note(models.Model):
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    about = GenericForeignKey()
    text = models.CharField(max_length=100)
    urgent = models.BooleanField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self):
        return self.text
